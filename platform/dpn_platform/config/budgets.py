"""Controls at budgets: the settings with which each runs with its share of the base's visual tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.budgets import at_budget
from dpn_platform.config.controls import ControlTrial
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.messages import first_message
from dpn_platform.config.method import laid_over, method_config


def at_budgets(
    controls: Sequence[ControlTrial], method: Mapping[str, Any], base: Any, shape: ModelShape
) -> tuple[list[ControlTrial], list[str]]:
    """Controls with settings in place of budgets; and why any of the study's own were left out.

    A study's own control is left out, too, where an earlier one comes to the same settings.

    Args:
        controls: of a study.
        method: the study's method section, whose common settings a control shares.
        base: configuration of the base.
        shape: of the base.

    Raises:
        ConfigError: a control that the recipe names does not fit the base, or cannot reach its budget.
    """
    kept: list[ControlTrial] = []
    left_out = []
    for control in controls:
        try:
            settings = _settled(control, method, base, shape)
        except ValueError as error:
            if not control.is_own:
                raise ConfigError(f"control {control.key}: {first_message(error)}") from None
            left_out.append(f"control {control.key} is left out: {first_message(error)}")
            continue
        found = replace(control, method={**control.method, **settings})
        same = [one for one in kept if _run_of(one) == _run_of(found)]
        if not (control.is_own and same):
            kept.append(found)
    return kept, left_out


def _run_of(control: ControlTrial) -> tuple[Any, ...]:
    return control.method, control.on, control.seed, control.dial


def _settled(control: ControlTrial, method: Mapping[str, Any], base: Any, shape: ModelShape) -> dict[str, Any]:
    """What the budget sets. Raises ValueError, where the method does not fit the base, too."""
    section = method_config(laid_over(method, control.method))
    section.spec.check(base)
    turned = section.spec.budget
    if control.budget is None or turned is None:
        return {}
    return {turned.setting: at_budget(section.spec, section.settings, shape, control.budget).to_dict()[turned.setting]}
