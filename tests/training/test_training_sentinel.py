"""A loss or a gradient that is not finite never reaches the weights, under any stage; the run names the step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dpn_model.not_finite import NotFiniteError
from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.engine import build_engine, consolidated_weights
from dpn_platform.training.guards import NanGuard
from dpn_platform.training.loop import run_loop
from dpn_platform.training.loss_meter import LossMeter
from dpn_platform.training.metrics import MetricsLog
from tests.benchmarks.host_copies import HostCopies

BAD_STEP, LINES_EVERY = 3, 4
OTHERWISE = {"steps": 8, "global_batch_size": 2, "micro_batch_size": 1, "log_every_steps": LINES_EVERY, "lr": 1e-3}


class Watch:
    """Callback that keeps the weights after every step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def after_step(self, engine: Any, result: Any) -> None:
        self.weights.append(consolidated_weights(engine) or {})


def spoil(engine: Any, kind: str) -> None:
    """In the second micro-batch of step 3: a loss that is NaN, or a finite one whose gradient is too large."""
    calls = [0]

    def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] != 2 * BAD_STEP:
            return output
        if kind == "loss":
            return output * math.nan
        factor = torch.tensor(3e38, dtype=torch.float32)
        return output.detach() + factor * (output - output.detach())

    engine.module.lm_head.register_forward_hook(hook)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loss", "norm"])
@pytest.mark.parametrize(
    "recipe",
    [
        {"zero_stage": 0},
        {"zero_stage": 0, "optimizer": "sgd"},
        {"zero_stage": 1, "weight_decay": 0.1},
        {"zero_stage": 2, "offload": "optimizer"},
        {"zero_stage": 2, "precision": "bf16"},
        {"zero_stage": 3},
    ],
    ids=lambda recipe: "-".join(map(str, recipe.values())),
)
def test_weights_stay_those_before_the_bad_step(
    process_group, build_tiny_model, build_batch, runs_uri: str, recipe: dict[str, Any], kind: str
) -> None:
    train = TrainConfig(**OTHERWISE, **recipe)
    model = build_tiny_model("dense")
    if train.precision == "bf16":
        model = model.to(torch.bfloat16)
    engine, watch = build_engine(model, train), Watch()
    spoil(engine, kind)
    log = MetricsLog(runs_uri, train, 0, [LossMeter()])
    batches = (build_batch([number], text_only=True) for number in range(100))
    step, reason = run_loop(engine, batches, train, start_step=0, callbacks=[watch, log, NanGuard(log)])
    assert f"at step {BAD_STEP}, which did not change the weights; lower train.lr or look at the data" in str(reason)
    assert reason.startswith("train/loss is nan" if kind == "loss" else "train/grad_norm is inf")
    assert log.is_diverged
    # Where DeepSpeed says that it left a step out the run ends there; the sentinel is asked at the next line.
    assert step == (LINES_EVERY if train.zero_stage == 0 else BAD_STEP)
    before, last = watch.weights[BAD_STEP - 2], watch.weights[-1]
    assert all(torch.equal(before[name], last[name]) for name in before)
    assert any(not torch.equal(watch.weights[0][name], before[name]) for name in before)
    engine.destroy()


def test_the_sentinel_waits_for_nothing_until_it_is_asked() -> None:
    from dpn_platform.training.sentinel import Sentinel

    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    sentinel = Sentinel(optimizer, 1.0)
    assert sentinel.steps_left_out() == 0
    with HostCopies() as counted:
        for value in (2.0, math.inf, 0.5):
            weight.grad = torch.full((3,), value)
            optimizer.step()
    assert counted.total == 0
    assert sentinel.steps_left_out() == 2
    plain = torch.nn.Parameter(torch.ones(3))
    once = torch.optim.AdamW([plain], lr=0.1)
    plain.grad = torch.full((3,), 2.0)
    torch.nn.utils.clip_grad_norm_([plain], 1.0)
    once.step()
    torch.testing.assert_close(weight, plain, atol=1e-6, rtol=0)  # measured: 0


def test_a_picture_that_is_not_finite_is_told_with_its_row(process_group, build_tiny_model, build_batch) -> None:
    from dpn_platform.training.loop import train_step

    train = TrainConfig(steps=1, global_batch_size=4, micro_batch_size=4, zero_stage=0)
    engine = build_engine(build_tiny_model("dpn"), train)
    batch = build_batch([10, 12, 13, 15], text_only=False)
    router = engine.module.reducers["2"].router
    router.register_forward_hook(lambda module, inputs, output: output.index_fill(0, torch.tensor([1, 3]), math.nan))
    with pytest.raises(DpnError, match=r"step 1: router_logits of rows 12, 15 hold NaN or infinity") as told:
        train_step(engine, [batch], 1)
    assert isinstance(told.value.__cause__, NotFiniteError)
    assert told.value.__cause__.places == (1, 3)
