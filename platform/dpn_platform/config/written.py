"""What somebody who writes a recipe is refused, and a study in storage is not: one that was started so can be read.

A stored study may hold what later versions refuse, or fewer trials than its rule waits for: a night of a pipeline adds
a few.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, get_args, get_origin

from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.messages import section_of
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.search import is_of_experiment
from dpn_platform.config.section import Section
from dpn_platform.config.sweep import SweepConfig


def check_written(config: ExperimentConfig) -> None:
    """Refuses rungs that say nothing, and lists that may mean a range or its two ends.

    Raises:
        ValueError: what, where, and what is allowed.
    """
    if config.sweep is None:
        return
    _check_stopping(config.sweep, grows=config.pipeline is not None)
    for name, given in (config.sweep.search.model_extra or {}).items():
        if is_of_experiment(name):
            section, *path = name.split(".")
            _check_list(name, given, set(_kinds(type(getattr(config, section)), path)))


def _check_stopping(sweep: SweepConfig, *, grows: bool) -> None:
    """A pipeline's study grows every night, so its number of trials is not known."""
    rule = sweep.early_stopping
    for name in ("rungs", "questions"):
        shares = getattr(rule, name)
        if twice := [share for share in shares if shares.count(share) > 1]:
            raise ValueError(f"sweep.early_stopping.{name}: {twice[0]:g} is named twice; allowed: different shares")
    if grows or not (rule.enabled and rule.rungs and sweep.num_proposals):
        return
    controls = all_control_trials(sweep.controls, sweep.budgets)
    trained = sweep.num_proposals + sum(trial.on is None for trial in controls)
    if rule.min_trials > trained:
        raise ValueError(
            f"sweep.early_stopping.min_trials = {rule.min_trials}: the study trains {trained}, so no trial would be "
            f"judged at its rungs; allowed: up to {trained}, or no rungs"
        )


def _check_list(name: str, given: Any, kinds: set[Any]) -> None:
    """A point in a number says that it is a range, and of all numbers; refused where the key says otherwise."""
    is_list = isinstance(given, list | tuple) and len(given) == 2
    written = list(given) if is_list else [given.get("low"), given.get("high")] if isinstance(given, Mapping) else []
    ends = [one for one in written if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(ends) != 2:
        return
    where, (low, high) = f"sweep.search.{name} = {given!r}", ends
    has_point = any(isinstance(one, float) for one in ends)
    if int in kinds and float not in kinds and has_point:
        low, high = round(low), round(high)
        raise ValueError(
            f"{where}: {name} takes whole numbers; write {{low: {low}, high: {high}}} for a range, [{low}, {high}] for "
            "two values"
        )
    if float not in kinds or has_point:
        return
    if is_list:
        raise ValueError(
            f"{where}: a range or two values? write [{float(low)}, {float(high)}] for the range, {{choices: [{low}, "
            f"{high}]}} for the values"
        )
    if given.get("step") is None:
        raise ValueError(
            f"{where}: of whole numbers, or of all? write {{low: {float(low)}, high: {float(high)}}} for all, step: 1 "
            "beside them for whole ones"
        )


def _kinds(section: type[Section], path: Sequence[str]) -> Iterator[Any]:
    """Types that a key of a section takes."""
    kind: Any = section
    for name in path:
        inner = section_of(kind)
        if inner is None or name not in inner.model_fields:
            return
        kind = inner.model_fields[name].annotation
    for option in get_args(kind) if get_origin(kind) in (UnionType, typing.Union) else (kind,):
        yield get_args(option)[0] if get_origin(option) is typing.Annotated else option
