"""The held-out loss: of the routes that answers take, over tokens, when it is due, without touching the training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import parse_config
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.held_out import HeldOutLoss
from dpn_platform.training.loop import to_device

TRAIN = TrainConfig(steps=7, log_every_steps=2, eval_every_steps=4)


def measured(meter: HeldOutLoss, engine: Any, step: int) -> dict[str, float]:
    window = [SimpleNamespace(step=step)]
    sums = {key: float(value) for key, value in meter.local(engine, window).items()}
    return meter.line(engine, window, sums)


def test_it_is_the_mean_over_the_tokens_of_all_batches(build_log_engine, build_batch) -> None:
    engine = build_log_engine()
    batches = [build_batch(range(3)), build_batch(range(3, 5))]
    state = torch.random.get_rng_state()

    line = measured(HeldOutLoss(TRAIN, lambda: batches), engine, 4)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert engine.module.training
    whole = engine.module.eval()(**to_device(build_batch(range(5)), torch.device("cpu"), torch.float32))
    assert line == {"eval/loss_lm": pytest.approx(whole.loss_lm.item(), rel=1e-5)}


def test_it_is_due_at_its_steps_and_at_the_last(build_log_engine, build_batch) -> None:
    engine, reads = build_log_engine("dense"), []

    def read() -> list[Any]:
        reads.append(1)
        return [build_batch(range(1))]

    meter = HeldOutLoss(TRAIN, read)
    assert [step for step in range(1, 8) if measured(meter, engine, step)] == [4, 7]
    assert reads == [1]
    never = HeldOutLoss(TrainConfig(steps=7), read)
    assert not measured(never, engine, 7)


def test_a_step_without_a_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="eval_every_steps 15 is not a multiple of log_every_steps 10"):
        parse_config({"name": "x", "train": {"eval_every_steps": 15}})
