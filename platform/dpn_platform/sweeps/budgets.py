"""Budgets of a running study: its controls settled, and the budgets of the front that its search has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import ray

from dpn_platform.config.budgets import at_budgets
from dpn_platform.config.controls import ControlTrial, all_control_trials
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import Point

#: two budgets of a front that differ by less are one
_APART = 0.02


class Settled(NamedTuple):
    """A study's controls with settings in place of budgets; and why any of its own were left out."""

    kept: Sequence[ControlTrial]
    left_out: Sequence[str] = ()


def settled(config: ExperimentConfig, budgets: Sequence[float] = ()) -> Settled:
    """The controls of a study, its own also at further budgets.

    A process of its own reads the base, since that imports torch and a study's driver does not; without Ray, this one.

    Raises:
        ConfigError: a control that the recipe names does not fit the base, or cannot reach its budget.
    """
    assert config.sweep is not None
    controls = all_control_trials(config.sweep.controls, (*config.sweep.budgets, *budgets))
    if all(control.budget is None for control in controls):
        return Settled(controls)
    if ray.is_initialized():
        kept, left_out, refusal = ray.get(ray.remote(num_cpus=0)(_settled).remote(config, controls))
    else:
        kept, left_out, refusal = _settled(config, controls)
    if refusal is not None:
        raise ConfigError(refusal)
    return Settled(kept, left_out)


def _settled(
    config: ExperimentConfig, controls: list[ControlTrial]
) -> tuple[list[ControlTrial], list[str], str | None]:
    """A refusal travels as a text: of an exception, Ray makes pages."""
    from dpn_model.bases.shapes import model_shape
    from dpn_platform.training.base_config import base_config

    try:
        base = base_config(config.model.base).base
        return *at_budgets(controls, config.method.model_dump(mode="json"), base, model_shape(base)), None
    except ConfigError as error:
        return [], [], str(error)


def budgets_of_front(points: Sequence[Point], dense_tokens: float) -> list[float]:
    """Shares of the visual tokens of some points, cheapest first; of neighbours, the cheaper.

    Args:
        points: of the search, on its front.
        dense_tokens: visual tokens of the dense control.
    """
    found: list[float] = []
    for share in sorted(point.visual_tokens_mean / dense_tokens for point in points):
        if share < 1 and (not found or share - found[-1] >= _APART):
            found.append(round(share, 3))
    return found
