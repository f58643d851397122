"""What ends a run before its last step: a loss that is not a number, and the budgets of `train.guards`.

Both judge what is the same on every rank: the latest metric line, and whether the optimiser took the step. All ranks
agree without a collective of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpn_platform.config.guards import Band, GuardConfig
from dpn_platform.training.metric_lines import DEVICE_HOURS, GRAD_NORM, KEEP_RATIO

if TYPE_CHECKING:
    from dpn_platform.training.loop import StepResult
    from dpn_platform.training.metrics import MetricsLog
    from dpn_platform.training.run_folder import TrainingOutcome


class NanGuard:
    """Callback that ends a run whose loss or gradient is not finite; after `MetricsLog`, before the checkpoint.

    Such a step never reaches the weights: DeepSpeed leaves it out and says so, at once and without a look at the device
    that it does not take anyway; in fp32 without ZeRO the `Sentinel` does, which is asked at metric lines.
    """

    def __init__(self, log: MetricsLog) -> None:
        self.log = log

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Judges the step, and the latest line."""
        left_out = 0 if result.is_applied else 1
        if self.log.last.get("step") == result.step and engine.sentinel is not None:
            left_out = engine.sentinel.steps_left_out()
        if left_out:
            self.log.has_bad_step = True
            self.log.add_line(engine)
        if not self.log.is_diverged:
            return None
        key = self.log.diverged_key or GRAD_NORM
        value = self.log.last[key] if self.log.diverged_key else math.inf
        step = result.step - max(left_out - 1, 0)
        kept = ", which did not change the weights" if left_out else ""
        return f"{key} is {value} at step {step}{kept}; lower train.lr or look at the data"


class Budgets:
    """Judges metric lines, in order, by `train.guards`; the same lines give the same verdicts wherever it runs."""

    def __init__(self, guards: GuardConfig) -> None:
        self.guards = guards
        self._outside = dict.fromkeys(("flops_ratio", "keep_ratio"), 0)

    def judge(self, line: Mapping[str, float]) -> str | None:
        """What the line breaks, None while it is within all budgets."""
        return (
            self._hours(line)
            or self._ratio(line, "flops_ratio", "train/flops_ratio_swiglu")
            or self._ratio(line, "keep_ratio", KEEP_RATIO)
        )

    def _hours(self, line: Mapping[str, float]) -> str | None:
        limit, spent = self.guards.max_device_hours, line.get(DEVICE_HOURS, 0.0)
        if limit is None or spent < limit:
            return None
        return f"{spent:.4g} device-hours at step {line['step']:.0f}, train.guards.max_device_hours is {limit:g}"

    def _ratio(self, line: Mapping[str, float], name: str, key: str) -> str | None:
        band: Band | None = getattr(self.guards, name)
        value = line.get(key)
        if band is None or value is None or line["step"] < self.guards.grace_steps:
            return None
        self._outside[name] = 0 if band[0] <= value <= band[1] else self._outside[name] + 1
        if self._outside[name] < self.guards.patience_lines:
            return None
        lines = self.guards.patience_lines
        return (
            f"{key} is {value:.3f} at step {line['step']:.0f}, for {lines} lines outside "
            f"train.guards.{name} [{band[0]:g}, {band[1]:g}]"
        )


class BudgetGuard:
    """Callback that ends a run which breaks a budget, where `train.guards.action` is stop."""

    def __init__(self, guards: GuardConfig, log: MetricsLog) -> None:
        self.log = log
        self.ends_runs = guards.action == "stop"
        self.budgets = Budgets(guards)

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Judges at every new line of the log."""
        if not self.ends_runs or self.log.last.get("step") != result.step:
            return None
        return self.budgets.judge(self.log.last)


def has_room(outcome: TrainingOutcome, guards: GuardConfig) -> bool:
    """Whether a run that was stopped for its hours may go on under these guards."""
    if outcome.status != "stopped" or "max_device_hours" not in (outcome.stop_reason or ""):
        return False
    spent = outcome.metrics.get(DEVICE_HOURS, 0.0)
    return guards.max_device_hours is None or guards.action == "warn" or spent < guards.max_device_hours
