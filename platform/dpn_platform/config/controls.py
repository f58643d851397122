"""A sweep's controls: any registered method, by its name, a short name, or with settings of its own.

`dense`, `random_drop`, `static_2x2` (one kernel at every site), `static_1x1-2x2-2x2` (one per site: a fixed pyramid,
the control for a router that could as well have been a constant), or

    {name: random_drop, keep_ratio: [0.5, 0.25], seeds: 3}
    {name: fastv, budget: [1/3, 1/9], on: dense}

    {key: dpn-dynamic, name: dpn, route_fit: {samples: 1500}, dial: [0.45, 0.6]}

where a list of values is one control for each, and `seeds` repeats each with so many seeds. `key` is its name in the
study, where its settings would make a long one. `budget` gives the method
that share of the base's visual tokens, weighted by depth, in place of the setting that turns its cost. `on: dense`
evaluates it on the checkpoint of the control `dense`; nothing is trained. `on` may name any trained control, of which
the method then has its weights (`on: m3`); with `seeds`, each on the one of its own seed. `dial` evaluates what was
trained again, at these FLOPs ratios of the budget dial that its training leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator

from dpn_model.methods.registry import DENSE, find_method, method_names, methods_with
from dpn_model.methods.settings import types_of
from dpn_model.methods.spec import MethodSpec

_MOST_SEEDS = 100
#: of random controls that a study brings along itself
_OWN_SEEDS = 3


@dataclass(frozen=True)
class ControlTrial:
    """One trial that a control comes to.

    Attributes:
        key: its name within the study.
        method: what it sets in the method's section.
        seed: added to the run's seed.
        budget: share of the base's visual tokens that the method is to run with, weighted by depth.
        on: key of the control whose checkpoint it is evaluated on; None: it is trained.
        dial: FLOPs ratio that the dial of that checkpoint is turned to.
        is_own: the study brought it along; where it does not fit, it is left out.
    """

    key: str
    method: dict[str, Any]
    seed: int = 0
    budget: float | None = None
    on: str | None = None
    dial: float | None = None
    is_own: bool = False


def control_trials_of(control: str | Mapping[str, Any]) -> list[ControlTrial]:
    """The trials of one control.

    Raises:
        ValueError: it names no registered method, or a setting that the method does not take.
    """
    if isinstance(control, str):
        return [ControlTrial(control, method_of_control(control))]
    values = dict(control)
    name, seeds, on = values.pop("name", None), values.pop("seeds", 1), values.pop("on", None)
    key_given, ratios = values.pop("key", None), [_budget(one, "dial") for one in _axis(float, values.pop("dial", []))]
    budgets = [_budget(one) for one in _axis(float, values.pop("budget", None))]
    spec = find_method(name)
    _check(spec, on, seeds)
    if key_given is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", str(key_given)):
        raise ValueError(f"key = {key_given!r}; allowed: letters, digits, dots, dashes")
    if budgets != [None] and (spec.budget is None or spec.budget.setting in values):
        raise ValueError(_no_budget(spec))
    if ratios and (on is not None or not spec.has_dial):
        able = ", ".join(methods_with("has_dial"))
        raise ValueError(f"dial: of a control that is trained, of method {able}; this is {name}, on = {on}")
    axes = {key: _axis(types_of(spec.settings).get(key), value) for key, value in values.items()}
    if empty := [key for key, points in axes.items() if not points]:
        raise ValueError(f"{empty[0]} = []: name at least one value")
    trials = []
    for *point, budget in product(*axes.values(), budgets):
        settings = dict(zip(axes, point, strict=True))
        spec.settings.from_dict(settings)
        parts = [name, *(f"{key}-{_word(value)}" for key, value in settings.items())]
        if key_given is not None:  # what varies is in the name all the same
            parts = [str(key_given), *(f"{key}-{_word(settings[key])}" for key in axes if len(axes[key]) > 1)]
        parts += [] if budget is None else [f"at-{budget:.3f}"]
        parts += [] if on is None else ["free" if on == DENSE else f"on-{on}"]
        for seed in range(seeds):
            key = "-".join([*parts, f"seed-{seed}"] if seeds > 1 else parts)
            of_seed = on if on in (None, DENSE) or seeds == 1 else f"{on}-seed-{seed}"
            trials.append(ControlTrial(key, {"name": name, **settings}, seed, budget, of_seed))
            trials += [replace(trials[-1], key=f"{key}-dial-{one:g}", on=key, dial=one) for one in ratios if one]
    return trials


def _check(spec: MethodSpec, on: Any, seeds: Any) -> None:
    if on is not None and (not isinstance(on, str) or spec.name == DENSE):
        raise ValueError(
            f"on = {on!r}; allowed: the name of another control, of another method than {DENSE}, or nothing"
        )
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= _MOST_SEEDS:
        raise ValueError(f"seeds = {seeds!r}; must be a whole number from 1 to {_MOST_SEEDS}")


def _no_budget(spec: MethodSpec) -> str:
    if spec.budget is None:
        able = ", ".join(one for one in method_names() if find_method(one).budget is not None)
        return f"budget: method {spec.name} has no setting that turns its cost; allowed with {able}"
    return f"budget and {spec.budget.setting} turn the same cost; give one of the two"


def _budget(value: Any, what: str = "budget") -> float | None:
    """A share, also written as 1/3.

    Raises:
        ValueError: not a number above 0 and up to 1.
    """
    if value is None:
        return None
    try:
        share = float(Fraction(value)) if isinstance(value, str) else float(value)
    except (ValueError, TypeError, ZeroDivisionError):
        share = 0.0
    if isinstance(value, bool) or not 0 < share <= 1:
        of = "the visual tokens" if what == "budget" else "the FLOPs"
        raise ValueError(f"{what} = {value!r}; allowed: a share of {of} above 0 and up to 1, such as 1/3")
    return share


def own_controls(budgets: Sequence[float]) -> list[ControlTrial]:
    """What a study at budgets carries, whatever else it names: every method that says it is such a control, at each.

    Those that need no training are evaluated on the dense control; random ones have three seeds.
    """
    found = []
    for name in method_names():
        spec = find_method(name)
        if spec.control is None or not budgets:
            continue
        control = {"name": name, **spec.control, "budget": list(budgets), "seeds": _OWN_SEEDS if spec.is_random else 1}
        control |= {"on": DENSE} if spec.needs_training == "none" else {}
        for trial in control_trials_of(control):
            seed = f"-seed-{trial.seed}" if spec.is_random else ""
            found.append(replace(trial, key=f"{name}-{trial.budget:.3f}{seed}", is_own=True))
    return found


def method_of_control(name: str) -> dict[str, Any]:
    """What a control's name, or short name, sets in the method's section.

    Raises:
        ValueError: no registered method knows it.
    """
    for method in method_names():
        found = find_method(method).shorthand(name)
        if found is not None:
            return {"name": method, **found}
    if name in method_names():
        return {"name": name}
    raise ValueError(
        f"must be a registered method ({', '.join(method_names())}), a short name such as static_2x2 or "
        "static_1x1-2x2-2x2 (<height>x<width>, one kernel per site), or {name: ..., settings}"
    )


def all_control_trials(
    controls: Sequence[str | Mapping[str, Any]], budgets: Sequence[float] = ()
) -> list[ControlTrial]:
    """The trials of all controls, each once, and those a study at `budgets` carries.

    `dense` is first, since early stopping is measured by it; what is evaluated on its checkpoint comes last.
    """
    found: dict[str, ControlTrial] = {}
    for trial in (*(trial for control in controls for trial in control_trials_of(control)), *own_controls(budgets)):
        found.setdefault(trial.key, trial)
    return sorted(found.values(), key=lambda trial: (trial.method["name"] != DENSE, trial.on is not None))


def _axis(kind: Any, value: Any) -> list[Any]:
    """The values of a setting that a control lists; a setting that is a list itself is listed by a list of lists."""
    is_list = any(get_origin(option) is tuple for option in (kind, *get_args(kind)))
    if not isinstance(value, list | tuple):
        return [value]
    if is_list and not any(isinstance(item, list | tuple) for item in value):
        return [value]
    return list(value)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "-".join(f"{key}-{_word(inner)}" for key, inner in value.items())
    text = "+".join(map(_word, value)) if isinstance(value, list | tuple) else str(value)
    return re.sub(r"[^A-Za-z0-9._+]+", "-", text)


def _checked_control(control: str | dict[str, Any]) -> str | dict[str, Any]:
    control_trials_of(control)
    return control


Control = Annotated[str | dict[str, Any], AfterValidator(_checked_control)]
