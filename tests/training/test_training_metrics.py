"""Metric lines: means over steps and tokens, kept in storage; losses and rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dpn_model import RoutingReport
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.callbacks import EarlyStop
from dpn_platform.training.loop import StepResult
from dpn_platform.training.loss_meter import LossMeter
from dpn_platform.training.metric_lines import read_metrics, tracked_metrics
from dpn_platform.training.metrics import MetricsLog

TRAIN = TrainConfig(steps=8, log_every_steps=2, checkpoint_every_steps=5)


@pytest.fixture
def engine(build_log_engine) -> Any:
    return build_log_engine()


def open_log(runs_uri: str, train: TrainConfig = TRAIN, start_step: int = 0) -> MetricsLog:
    return MetricsLog(f"{runs_uri}/a", train, start_step, [LossMeter()])


def result(step: int, loss: float, *, tokens: int = 4, pictured: int = 1, hinge: float | None = 0.2) -> StepResult:
    return StepResult(
        step,
        num_supervised_tokens=tokens,
        loss_lm=torch.tensor(loss),
        num_pictured=pictured,
        loss_terms={} if hinge is None else {"routing": torch.tensor(hinge)},
        routing=[RoutingReport((), (10, 10), (64, 0))],
    )


def test_a_line_is_the_mean_over_tokens_and_pictures_of_its_steps(process_group, runs_uri: str, engine: Any) -> None:
    log = open_log(runs_uri)

    log.after_step(engine, result(1, 1.0, tokens=3, pictured=1, hinge=0.1))
    assert log.lines == []
    log.after_step(engine, result(2, 2.0, tokens=1, pictured=3, hinge=0.3))

    weight = engine.module.parts.losses[0].weight
    assert log.last == {
        "step": 2,
        "train/loss_lm": pytest.approx(1.25),
        "train/loss_routing": pytest.approx(0.25),
        "train/loss": pytest.approx(1.25 + weight * 0.25),
        "train/grad_norm": 2.0,
        "train/lr": 0.1,
        "train/lr_base": 0.1,
        "train/lr_router": 0.4,
    }


def test_lines_come_before_checkpoints_and_survive_a_resume(process_group, runs_uri: str, engine: Any) -> None:
    log = open_log(runs_uri)
    for step in range(1, 8):
        log.after_step(engine, result(step, float(step)))
    log.flush()
    assert [line["step"] for line in read_metrics(f"{runs_uri}/a")] == [2, 4, 5, 6]

    log.add_line(engine)
    log.add_line(engine)
    assert [line["step"] for line in log.lines] == [2, 4, 5, 6, 7]

    resumed = open_log(runs_uri, start_step=5)
    assert [line["step"] for line in resumed.lines] == [2, 4, 5]


def test_samples_without_an_answer_are_counted(process_group, runs_uri: str, engine: Any) -> None:
    log = open_log(runs_uri)
    for step, unanswered in ((1, 2), (2, 1), (3, 0), (4, 0)):
        log.after_step(engine, replace(result(step, 0.0, tokens=0), num_unanswered=unanswered))
    assert [line.get("train/unanswered_samples") for line in log.lines] == [3, None]
    assert [line["train/loss_lm"] for line in log.lines] == [0.0, 0.0]


def test_methods_without_router_have_no_routing_loss(process_group, runs_uri: str, engine: Any) -> None:
    log = open_log(runs_uri)
    for step in (1, 2):
        log.after_step(engine, result(step, 1.0, hinge=None))
    assert "train/loss_routing" not in log.last
    assert log.last["train/loss"] == log.last["train/loss_lm"]


def test_a_tracker_gets_no_steps_and_no_shares() -> None:
    line = {"step": 2, "train/loss": 1.0, "router/keep_ratio": 0.5, "routes/layer_02/2x2": 0.25}
    assert tracked_metrics(line) == {"train/loss": 1.0, "router/keep_ratio": 0.5}


def test_a_judge_is_asked_at_every_new_line(process_group, runs_uri: str, engine: Any) -> None:
    log, asked = open_log(runs_uri, TrainConfig(steps=20, log_every_steps=2)), []

    def judge(lines: Any) -> str | None:
        asked.append(len(lines))
        return "enough" if len(lines) == 2 else None

    stop, reasons = EarlyStop(judge, log), []
    for step in range(1, 6):
        log.after_step(engine, result(step, 2.1))
        reasons.append(stop.after_step(engine, result(step, 2.1)))
    assert asked == [1, 2]
    assert reasons == [None, None, None, "enough", None]
