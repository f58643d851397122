"""The training loop. Everything optional is a callback.

Gradients are those of the mean over the supervised tokens of the whole global batch: packing, accumulation and the
number of workers do not change them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_model import RoutingReport
from dpn_model.processing.images import normalise
from dpn_platform.config.schema import TrainConfig

Batch = dict[str, Any]


@dataclass
class StepResult:
    """What one optimiser step did on this rank.

    Attributes:
        step: 1-based.
        loss_lm: sum of this rank's cross entropy over supervised tokens, divided by the global token count.
        loss_routing: mean hinge of this rank's micro-batches; None for methods without a router.
        num_supervised_tokens: global.
        num_tokens: tokens of this rank that entered the decoder.
        sample_keys: samples this rank consumed.
        routing: reports of this rank's micro-batches.
    """

    step: int
    loss_lm: float = 0.0
    loss_routing: float | None = None
    num_supervised_tokens: int = 0
    num_tokens: int = 0
    sample_keys: list[int] = field(default_factory=list)
    routing: list[RoutingReport] = field(default_factory=list)


class Callback(Protocol):
    """Called on every rank after every step; returning True on all ranks ends the run."""

    def after_step(self, engine: Any, result: StepResult) -> bool: ...


def run_loop(
    engine: Any, batches: Iterator[Batch], train: TrainConfig, *, start_step: int, callbacks: Sequence[Callback]
) -> int:
    """Train from `start_step` to the configured number of steps, or until a callback stops it.

    Args:
        engine: DeepSpeed engine.
        batches: collated micro-batches of this rank, `gradient_accumulation_steps` for every step.
        train: steps, accumulation, seed.
        start_step: steps done by earlier attempts.
        callbacks: called after every step, in order.

    Returns:
        Steps done, over all attempts.
    """
    engine.train()
    for step in range(start_step + 1, train.steps + 1):
        torch.manual_seed(step_seed(train.seed, step, dist.get_rank()))
        micro_batches = [next(batches) for _ in range(train.gradient_accumulation_steps)]
        result = _train_step(engine, micro_batches, step)
        if any([callback.after_step(engine, result) for callback in callbacks]):
            return step
    return train.steps


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step on one rank: a resumed run draws the same routes as an undisturbed one."""
    return (seed * 1_000_003 + step) * 4096 + rank


def _train_step(engine: Any, micro_batches: Sequence[Batch], step: int) -> StepResult:
    result = StepResult(step, num_supervised_tokens=_global_supervised_tokens(micro_batches, engine.device))
    # DeepSpeed averages over ranks and accumulation; undo both, then divide by the global token count.
    share = dist.get_world_size() * len(micro_batches) / result.num_supervised_tokens
    for batch in micro_batches:
        inputs = to_device(batch, engine.device, engine.module.lm_head.weight.dtype)
        out = engine(**inputs)
        weight = out.num_supervised_tokens * share
        engine.backward(out.loss + (weight - 1.0) * out.loss_lm)
        engine.step()
        _record(result, batch, out, len(micro_batches))
    return result


def _global_supervised_tokens(micro_batches: Sequence[Batch], device: torch.device) -> int:
    count = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in micro_batches)
    total = torch.tensor(count, device=device)
    dist.all_reduce(total)
    return int(total)


def _record(result: StepResult, batch: Batch, out: Any, num_micro_batches: int) -> None:
    result.loss_lm += float(out.loss_lm.detach()) * out.num_supervised_tokens / result.num_supervised_tokens
    if out.loss_routing is not None:
        result.loss_routing = (result.loss_routing or 0.0) + float(out.loss_routing.detach()) / num_micro_batches
    result.num_tokens += sum(out.routing.text_tokens) + sum(out.routing.visual_tokens)
    result.sample_keys += batch["sample_keys"].tolist()
    result.routing.append(out.routing)


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor | None]:
    """Model inputs of a collated batch on the device; pictures are normalised there, from uint8."""
    pixels = batch["pixel_values"]
    return {
        **{name: batch[name].to(device, non_blocking=True) for name in ("input_ids", "attention_mask", "labels")},
        "pixel_values": None if pixels is None else normalise(pixels.to(device, non_blocking=True)).to(dtype),
    }
