"""Metric lines: means over steps and tokens, kept in storage, and what they stop."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpn_model import Method, RoutingLoss, RoutingReport
from dpn_model.reduction import ReductionRecord
from dpn_platform.config.schema import EarlyStopping, TrainConfig
from dpn_platform.training.callbacks import EarlyStop
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metrics import MetricsLog, read_metrics

TRAIN = TrainConfig(steps=8, log_every_steps=2, checkpoint_every_steps=5)


@pytest.fixture
def engine() -> Any:
    """The few things the log asks an engine for."""
    method = Method(routing_loss=RoutingLoss(weight=0.5))
    module = SimpleNamespace(config=SimpleNamespace(method_settings=method))
    return SimpleNamespace(
        device=torch.device("cpu"), module=module, get_lr=lambda: [0.1], get_global_grad_norm=lambda: 2.0
    )


def result(step: int, loss: float, *, tokens: int = 4, routed: bool = True) -> StepResult:
    record = ReductionRecord(layer=2, tokens_in=(64, 0), tokens_out=(16, 0), choices=("2x2", "-"))
    return StepResult(
        step,
        num_supervised_tokens=tokens,
        loss_lm=torch.tensor(loss),
        loss_routing=[torch.tensor(0.2)] if routed else [],
        num_tokens=100,
        sample_keys=[step],
        routing=[RoutingReport((record,), (10, 10), (64, 0))],
    )


def test_a_line_is_the_mean_over_the_tokens_of_its_steps(process_group, runs_uri: str, engine: Any) -> None:
    log = MetricsLog(f"{runs_uri}/a", TRAIN, 0)

    log.after_step(engine, result(1, 1.0, tokens=3))
    assert log.lines == []
    log.after_step(engine, result(2, 2.0, tokens=1))

    assert log.last["step"] == 2
    assert log.last["train/loss_lm"] == pytest.approx(1.25)
    assert log.last["train/loss_routing"] == pytest.approx(0.2)
    assert log.last["train/loss"] == pytest.approx(1.25 + 0.5 * 0.2)
    assert log.last["router/keep_ratio_layer_02"] == 0.25
    assert log.last["train/grad_norm"] == 2.0


def test_lines_come_before_checkpoints_and_survive_a_resume(process_group, runs_uri: str, engine: Any) -> None:
    log = MetricsLog(f"{runs_uri}/a", TRAIN, 0)
    for step in range(1, 8):
        log.after_step(engine, result(step, float(step)))
    log.flush()
    assert [line["step"] for line in read_metrics(f"{runs_uri}/a")] == [2, 4, 5, 6]

    resumed = MetricsLog(f"{runs_uri}/a", TRAIN, 5)
    assert [line["step"] for line in resumed.lines] == [2, 4, 5]


def test_methods_without_router_have_no_routing_loss(process_group, runs_uri: str, engine: Any) -> None:
    log = MetricsLog(f"{runs_uri}/a", TRAIN, 0)
    for step in (1, 2):
        log.after_step(engine, result(step, 1.0, routed=False))
    assert "train/loss_routing" not in log.last
    assert log.last["train/loss"] == log.last["train/loss_lm"]


def test_a_loss_that_is_not_finite_stops_the_run(process_group, runs_uri: str, engine: Any) -> None:
    log = MetricsLog(f"{runs_uri}/a", TRAIN, 0)
    log.after_step(engine, result(1, 1.0))
    reason = log.after_step(engine, result(2, math.nan))
    assert log.is_diverged
    assert "step 2" in str(reason)


def test_hopeless_trials_are_stopped_after_the_grace_period(process_group, runs_uri: str, engine: Any) -> None:
    train = TrainConfig(steps=20, log_every_steps=1)
    log = MetricsLog(f"{runs_uri}/a", train, 0)
    stop = EarlyStop(EarlyStopping(grace_steps=6, loss_margin=1.0), 1.0, log)

    reasons = []
    for step in range(1, 8):
        step_result = result(step, 2.1)
        log.after_step(engine, step_result)
        reasons.append(stop.after_step(engine, step_result))

    assert reasons[:5] == [None] * 5
    assert "above 2" in str(reasons[5])


def test_good_trials_go_on(process_group, runs_uri: str, engine: Any) -> None:
    log = MetricsLog(f"{runs_uri}/a", TrainConfig(steps=20, log_every_steps=1), 0)
    stop = EarlyStop(EarlyStopping(grace_steps=2, loss_margin=1.0), 1.0, log)
    for step in range(1, 10):
        step_result = result(step, 1.9)
        log.after_step(engine, step_result)
        assert stop.after_step(engine, step_result) is None
