"""Controls at budgets: the settings at which each runs with its share of visual tokens, and the budgets of a front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray

from dpn_model.methods.budgets import at_budget
from dpn_model.methods.registry import find_method
from dpn_platform.config.controls import ControlTrial
from dpn_platform.config.errors import DpnError
from dpn_platform.config.method import laid_over, method_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import Point

#: two budgets of a front that differ by less are one
_APART = 0.02


def settled(config: ExperimentConfig, controls: Sequence[ControlTrial]) -> tuple[list[ControlTrial], list[str]]:
    """Controls with settings in place of budgets; and why any of the study's own were left out.

    A process of its own reads the base, since that imports torch and a study's driver does not.

    Raises:
        DpnError: a control that the recipe names does not fit the base, or cannot reach its budget.
    """
    if all(control.budget is None for control in controls):
        return list(controls), []
    solve = ray.remote(num_cpus=0)(settings_at_budgets)
    found: list[dict[str, Any] | str] = ray.get(solve.remote(config, list(controls)))
    kept, left_out = [], []
    for control, settings in zip(controls, found, strict=True):
        if not isinstance(settings, str):
            kept.append(replace(control, method={**control.method, **settings}))
        elif control.is_own:
            left_out.append(f"control {control.key} is left out: {settings}")
        else:
            raise DpnError(f"control {control.key}: {settings}")
    return kept, left_out


def settings_at_budgets(config: ExperimentConfig, controls: Sequence[ControlTrial]) -> list[dict[str, Any] | str]:
    """For every control what its budget sets, or the reason why it cannot run on the base."""
    from dpn_model.bases.shapes import model_shape
    from dpn_platform.training.base_config import base_config

    base = base_config(config.model.base).base
    before = config.method.model_dump(mode="json")
    found: list[dict[str, Any] | str] = []
    for control in controls:
        spec = find_method(control.method["name"])
        try:
            spec.check(base)
            settings = method_config(laid_over(before, control.method)).settings
            if control.budget is None:
                found.append({})
                continue
            assert spec.budget is not None
            turned = at_budget(spec, settings, model_shape(base), control.budget).to_dict()
            found.append({spec.budget.setting: turned[spec.budget.setting]})
        except ValueError as error:
            found.append(str(error))
    return found


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
