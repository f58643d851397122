"""A sweep's controls: any registered method, by its name, a short name, or with settings of its own.

`dense`, `random_drop`, `static_2x2` (one kernel at every site), `static_1x1-2x2-2x2` (one per site: a fixed pyramid,
the control for a router that could as well have been a constant), or

    {name: random_drop, keep_ratio: [0.5, 0.25], seeds: 3}

where a list of values is one control for each, and `seeds` repeats each with so many seeds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator

from dpn_model.methods.registry import DENSE, find_method, method_names
from dpn_model.methods.settings import types_of

_MOST_SEEDS = 100


@dataclass(frozen=True)
class ControlTrial:
    """One trial that a control comes to.

    Attributes:
        key: its name within the study.
        method: what it sets in the method's section.
        seed: added to the run's seed.
    """

    key: str
    method: dict[str, Any]
    seed: int = 0


def control_trials_of(control: str | Mapping[str, Any]) -> list[ControlTrial]:
    """The trials of one control.

    Raises:
        ValueError: it names no registered method, or a setting that the method does not take.
    """
    if isinstance(control, str):
        return [ControlTrial(control, method_of_control(control))]
    values = dict(control)
    name, seeds = values.pop("name", None), values.pop("seeds", 1)
    spec = find_method(name)
    if isinstance(seeds, bool) or not isinstance(seeds, int) or not 1 <= seeds <= _MOST_SEEDS:
        raise ValueError(f"seeds = {seeds!r}; must be a whole number from 1 to {_MOST_SEEDS}")
    axes = {key: _axis(types_of(spec.settings).get(key), value) for key, value in values.items()}
    if empty := [key for key, points in axes.items() if not points]:
        raise ValueError(f"{empty[0]} = []: name at least one value")
    trials = []
    for point in product(*axes.values()):
        settings = dict(zip(axes, point, strict=True))
        spec.settings.from_dict(settings)
        parts = [name, *(f"{key}-{_word(value)}" for key, value in settings.items())]
        for seed in range(seeds):
            key = "-".join([*parts, f"seed-{seed}"] if seeds > 1 else parts)
            trials.append(ControlTrial(key, {"name": name, **settings}, seed))
    return trials


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


def all_control_trials(controls: Sequence[str | Mapping[str, Any]]) -> list[ControlTrial]:
    """The trials of all controls, each once; `dense` first, since early stopping is measured by it."""
    found: dict[str, ControlTrial] = {}
    for control in controls:
        for trial in control_trials_of(control):
            found.setdefault(trial.key, trial)
    return sorted(found.values(), key=lambda trial: trial.method["name"] != DENSE)


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
