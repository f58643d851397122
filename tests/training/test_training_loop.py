"""The loop against plain PyTorch, its seeds, and gradients for every parameter whatever a micro-batch holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpn_platform.config.training import TrainConfig
from dpn_platform.training.engine import build_engine
from dpn_platform.training.loop import run_loop, step_seed, to_device
from dpn_platform.training.optimizer import build_optimizer, build_schedule

STEPS, GLOBAL_BATCH = 6, 8
# Measured: 5.5e-7; the order of sums differs.
TOLERANCE = 5e-6


class Losses:
    """Callback that keeps every step's global loss."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_step(self, engine: Any, result: Any) -> str | None:
        self.values.append(float(result.loss_lm))
        return None


def train_config(micro_batch_size: int, **values: Any) -> TrainConfig:
    return TrainConfig(
        steps=STEPS, global_batch_size=GLOBAL_BATCH, micro_batch_size=micro_batch_size, warmup_ratio=0.2, **values
    )


def plain_losses(model: Any, build_batch: Any, train: TrainConfig) -> list[float]:
    """The same recipe as a plain loop over whole global batches."""
    optimizer = build_optimizer(model, train)
    schedule = build_schedule(optimizer, train)
    losses = []
    for step in range(STEPS):
        batch = build_batch(range(step * GLOBAL_BATCH, (step + 1) * GLOBAL_BATCH))
        loss = model(**to_device(batch, torch.device("cpu"), torch.float32)).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], train.max_grad_norm)
        optimizer.step()
        schedule.step()
    return losses


@pytest.mark.slow
def test_losses_are_those_of_plain_pytorch(process_group, build_tiny_model, build_batch) -> None:
    """On one worker without ZeRO; two workers under ZeRO are in test_training_ranks.py."""
    train = train_config(2, zero_stage=0, weight_decay=0.1)
    log = Losses()
    batches = (build_batch(range(first, first + 2)) for first in range(0, 1000, 2))

    engine = build_engine(build_tiny_model("dense"), train)
    done = run_loop(engine, batches, train, start_step=0, callbacks=[log])

    assert done == (STEPS, None)
    assert log.values == pytest.approx(plain_losses(build_tiny_model("dense"), build_batch, train), rel=TOLERANCE)


@pytest.mark.slow
def test_a_callback_ends_the_loop(process_group, build_tiny_model, build_batch) -> None:
    class Stop:
        def after_step(self, engine: Any, result: Any) -> str | None:
            return "enough" if result.step == 2 else None

    train = train_config(8, zero_stage=0)
    engine = build_engine(build_tiny_model("dense"), train)
    assert run_loop(engine, iter([build_batch(range(8))] * 9), train, start_step=0, callbacks=[Stop()]) == (2, "enough")


@pytest.mark.slow
def test_parts_hear_how_much_of_the_training_is_done(process_group, build_tiny_model, build_batch) -> None:
    heard = []

    class Hear:
        def after_step(self, engine: Any, result: Any) -> str | None:
            heard.append({part.progress for part in engine.module.parts.all()})
            return None

    model = build_tiny_model("roe_llava")
    assert {part.progress for part in model.parts.all()} == {None}
    train = train_config(8, zero_stage=0)
    run_loop(build_engine(model, train), iter([build_batch(range(8))] * 9), train, start_step=3, callbacks=[Hear()])
    assert heard == [{step / STEPS} for step in (3, 4, 5)]


@pytest.mark.parametrize("method", ["dense", "dpn", "static", "random_drop", "moe_llava", "gamma_mod", "roe_llava"])
@pytest.mark.parametrize("text_only", [False, True])
def test_every_trained_parameter_gets_a_gradient(build_tiny_model, build_batch, method: str, text_only: bool) -> None:
    model = build_tiny_model(method)
    model(**to_device(build_batch(range(4), text_only=text_only), torch.device("cpu"), torch.float32)).loss.backward()

    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    # The features are taken before the tower's last norm.
    assert all("post_layernorm" in name for name in without), sorted(without)


def test_loss_of_the_global_batch_is_the_mean_over_its_tokens(build_tiny_model, build_batch) -> None:
    model = build_tiny_model("dense").eval()
    batch = build_batch(range(4))
    inputs = to_device(batch, torch.device("cpu"), torch.float32)
    counts, sums = [], []
    for sample in range(4):
        one = build_batch(range(sample, sample + 1))
        out = model(**to_device(one, torch.device("cpu"), torch.float32))
        counts.append(out.num_supervised_tokens)
        sums.append(out.loss_lm.item() * out.num_supervised_tokens)
    assert model(**inputs).loss_lm.item() == pytest.approx(sum(sums) / sum(counts), rel=1e-5)
    assert sum(counts) == int((batch["labels"][:, 1:] != -100).sum())


def test_seeds_differ_by_step_and_rank() -> None:
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(1, 50) for rank in range(4)}
    assert len(seeds) == 3 * 49 * 4
