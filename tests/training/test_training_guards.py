"""What ends a run: losses and gradients that are no numbers, ratios outside their band, spent hours."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.guards import GuardConfig
from dpn_platform.config.load import parse_config
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.guards import BudgetGuard, Budgets, NanGuard, has_room
from dpn_platform.training.metrics import MetricsLog
from dpn_platform.training.run_folder import TrainingOutcome

BAND = {"flops_ratio": (0.4, 0.8), "grace_steps": 20, "patience_lines": 2}


@pytest.mark.parametrize(
    ("guards", "message"),
    [
        ({"flops_ratio": [0.5, 0.2]}, r"train.guards.flops_ratio = \[0.5, 0.2\]: must be \[low, high\]"),
        ({"keep_ratios": [0.5, 0.9]}, "did you mean 'train.guards.keep_ratio'"),
        ({"action": "kill"}, "train.guards.action = 'kill': allowed are stop, warn"),
        ({"max_device_hours": 0}, "train.guards.max_device_hours"),
    ],
)
def test_bad_guards_are_named(guards: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({"name": "x", "train": {"guards": guards}})


def log_of(runs_uri: str, **line: float) -> MetricsLog:
    log = MetricsLog(runs_uri, TrainConfig(), 0, [])
    log.lines.append({"step": 2, "train/loss": 1.0, "train/grad_norm": 1.0, **line})
    return log


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"train/loss": math.nan}, "train/loss is nan at step 2; lower train.lr or look at the data"),
        ({"train/loss": math.inf}, "train/loss is inf at step 2"),
        ({"train/grad_norm": math.nan}, "train/grad_norm is nan at step 2"),
        ({}, None),
    ],
)
def test_what_is_not_finite_ends_the_run(runs_uri: str, line: dict[str, float], named: str | None) -> None:
    log = log_of(runs_uri, **line)
    reason = NanGuard(log).after_step(SimpleNamespace(sentinel=None), SimpleNamespace(step=2, is_applied=True))
    assert log.is_diverged is (named is not None)
    assert (reason is None) if named is None else named in str(reason)


def verdicts(guards: dict[str, Any], ratios: list[float], every: int = 10) -> list[str | None]:
    budgets = Budgets(GuardConfig(**guards))
    return [
        budgets.judge({"step": every * (n + 1), "train/flops_ratio_swiglu": ratio}) for n, ratio in enumerate(ratios)
    ]


def test_a_ratio_has_to_be_outside_its_band_for_some_lines_after_the_grace_period() -> None:
    # Step 10 is not judged; 20 and 30 are outside, 40 within; 50 and 60 outside again.
    found = verdicts(BAND, [0.9, 0.9, 0.6, 0.3, 0.9, 0.7])
    assert found[:4] == [None] * 4
    assert found[4] == (
        "train/flops_ratio_swiglu is 0.900 at step 50, for 2 lines outside train.guards.flops_ratio [0.4, 0.8]"
    )
    assert found[5] is None


def test_hours_are_judged_at_once_and_a_line_without_a_ratio_is_not() -> None:
    budgets = Budgets(GuardConfig(max_device_hours=2.0, keep_ratio=(0.5, 0.6), grace_steps=0, patience_lines=1))
    assert budgets.judge({"step": 1, "train/device_hours": 1.99}) is None
    assert "2.5 device-hours at step 2, train.guards.max_device_hours is 2" in str(
        budgets.judge({"step": 2, "train/device_hours": 2.5})
    )
    assert "router/keep_ratio is 0.900" in str(budgets.judge({"step": 3, "router/keep_ratio": 0.9}))


@pytest.mark.parametrize(("action", "step", "stops"), [("stop", 2, True), ("warn", 2, False), ("stop", 3, False)])
def test_only_a_new_line_under_the_action_stop_ends_the_run(runs_uri: str, action: str, step: int, stops: bool) -> None:
    log = log_of(runs_uri, **{"train/device_hours": 3.0})
    guard = BudgetGuard(GuardConfig.model_validate({"max_device_hours": 1, "action": action}), log)
    assert (guard.after_step(None, SimpleNamespace(step=step)) is not None) is stops


@pytest.mark.parametrize(
    ("reason", "guards", "goes_on"),
    [
        ("3 device-hours at step 5, train.guards.max_device_hours is 2", {"max_device_hours": 4}, True),
        ("3 device-hours at step 5, train.guards.max_device_hours is 2", {}, True),
        ("3 device-hours at step 5, train.guards.max_device_hours is 2", {"max_device_hours": 3}, False),
        ("mean train/loss_lm 9 above 2 at step 5", {}, False),
    ],
)
def test_a_run_stopped_for_its_hours_goes_on_when_it_has_more(reason: str, guards: dict, goes_on: bool) -> None:
    outcome = TrainingOutcome("a", "u", "c", "e", "stopped", 5, {"train/device_hours": 3.0}, 0, reason)
    assert has_room(outcome, GuardConfig(**guards)) is goes_on
