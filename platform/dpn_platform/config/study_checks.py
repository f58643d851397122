"""What a sweep has to fit beside it: the study's own method, its sections, and what its controls name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from dpn_model.methods.registry import DENSE, find_method
from dpn_model.methods.settings import per_site_settings
from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.dimensions import ends
from dpn_platform.config.messages import first_message
from dpn_platform.config.method import MethodConfig, laid_over, method_config
from dpn_platform.config.objectives import ACCURACY, CURVE, FLOPS_RATIO
from dpn_platform.config.search import is_of_experiment
from dpn_platform.config.section import Section
from dpn_platform.config.sweep import SweepConfig


def check_study(sweep: SweepConfig, method: MethodConfig, sections: Mapping[str, Section]) -> None:
    """What trials set cannot be set beside them; entries per site are as many as sites; dials are calibrated.

    Args:
        sweep: the section.
        method: the study's own, over which trials lay theirs.
        sections: those of which keys may be varied, by name.

    Raises:
        ValueError: something does not fit.
    """
    for name in sweep.search.spaces if sweep.num_trials else ():
        _check_space(sweep, name, method, sections)
    _ = sweep.num_proposals  # refuses a grid that nothing divides
    if len(set(sweep.objectives)) < len(sweep.objectives):
        raise ValueError(f"sweep.objectives: {', '.join(sweep.objectives)}; name each once")
    _check_sampler(sweep.sampler)
    for point in sweep.points:
        try:
            for key, value in sweep.search.params_of(point).items():
                if is_of_experiment(key):
                    _check_key(sections, key, value, "here")
        except ValueError as error:
            raise ValueError(f"sweep.points, {dict(point)}: {error}") from None
    _check_controls(sweep, method)
    _check_dials(sweep, method)
    _check_stopping(sweep)


def _check_stopping(sweep: SweepConfig) -> None:
    """A bound is one of accuracy at a cost: of a curve or of other objectives there is none."""
    rule = sweep.early_stopping
    if not rule.enabled or not (rule.rungs or rule.questions):
        return
    where = "sweep.early_stopping.rungs and questions"
    if sweep.dial or CURVE in sweep.objectives:
        raise ValueError(f"{where}: judge points, a trial with sweep.dial is a curve; leave them out, or the dial")
    if sweep.replicates > 1:
        raise ValueError(f"{where}: would end unlucky seeds of a point; leave them out, or sweep.replicates")
    if rule.by == "kl" and rule.rungs and DENSE not in sweep.control_names:
        raise ValueError("sweep.early_stopping.by = 'kl': measured from the control 'dense'; name it in controls")
    costs = (FLOPS_RATIO, f"{FLOPS_RATIO}/{sweep.flops_convention}")
    if unknown := [name for name in sweep.objectives if name not in (ACCURACY, *costs)]:
        raise ValueError(f"{where}: bound {ACCURACY} and {FLOPS_RATIO}; what becomes of {unknown[0]} they cannot say")


def _check_sampler(name: str) -> None:
    """Whether there is such a module; what it gives is seen when the study starts."""
    module, colon, _ = name.partition(":")
    try:
        is_there = not colon or find_spec(module) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise ValueError(f"sweep.sampler = {name!r}: there is no module {module}")


def _check_space(sweep: SweepConfig, name: str, method: MethodConfig, sections: Mapping[str, Section]) -> None:
    space, settings = sweep.search.spaces[name], method.model_dump()
    if not space:
        raise ValueError(f"sweep.search: {name} varies nothing by default; name a setting")
    varied = {one.setting for one in sweep.search.of_method(name)}
    for per_site, plain in per_site_settings(find_method(name).settings).items():
        if plain in varied and name == method.name and settings[per_site] is not None:
            raise ValueError(f"method.{per_site} cannot be set in a sweep that varies {plain}")
    for key, dimension in space.items():
        for value in ends(dimension) if is_of_experiment(key) else ():
            _check_key(sections, key, value, f"sweep.search.{key}")


def _check_key(sections: Mapping[str, Section], key: str, value: Any, where: str) -> None:
    """Whether a section takes the value of one of its keys."""
    name, *path, last = key.split(".")
    values = target = sections[name].model_dump(mode="json")
    for part in path:
        target = target.get(part) or {}
    if last not in target:
        raise ValueError(
            f"{where}: there is no key {key}; allowed: keys of {name}, such as {name}.{next(iter(values))}"
        )
    target[last] = list(value) if isinstance(value, tuple) else value
    try:
        type(sections[name]).model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {value!r}: {first_message(error)}") from None


def _check_controls(sweep: SweepConfig, method: MethodConfig) -> None:
    if sweep.carries_controls and DENSE not in sweep.control_names:
        raise ValueError("sweep.budgets: the study's own controls run on the control 'dense'; name it in controls")
    if sweep.constraints and any(" dense" in text for text in sweep.constraints) and DENSE not in sweep.control_names:
        raise ValueError("sweep.constraints: measured by the control 'dense'; name it in controls")
    own_sites = method.model_dump().get("sites")
    for trial in all_control_trials(sweep.controls):
        sites = trial.method.get("sites", own_sites)
        num_sites = 3 if sites is None else len(sites)
        for key in per_site_settings(find_method(trial.method["name"]).settings):
            if (entries := trial.method.get(key)) is not None and len(entries) != num_sites:
                what = key.removeprefix("site_")
                raise ValueError(f"control {trial.key} has {len(entries)} {what} for {num_sites} sites")


def _check_dials(sweep: SweepConfig, method: MethodConfig) -> None:
    before = method.model_dump(mode="json")
    for trial in all_control_trials(sweep.controls):
        if trial.dial is not None:
            _check_dial(f"control {trial.key}", laid_over(before, trial.method))
    if CURVE in sweep.objectives and not sweep.dial:
        raise ValueError(f"sweep.objectives: {CURVE} needs sweep.dial, the ratios at which a trial's dial is turned")
    for name in sweep.search.spaces if sweep.dial else ():
        _check_dial(f"sweep.dial, {name}", laid_over(before, {"name": name}))


def _check_dial(where: str, settings: Mapping[str, Any]) -> None:
    try:
        section = method_config(settings)
    except ValueError as error:
        raise ValueError(f"{where}: {first_message(error)}") from None
    if not section.settings.calibrates_dial:
        raise ValueError(
            f"{where}: the training of method {section.name} with these settings leaves no calibrated dial; allowed: "
            "route_fit.samples above 0"
        )
