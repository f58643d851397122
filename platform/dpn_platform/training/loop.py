"""The training loop. Everything optional is a callback.

Gradients are those of the mean over the supervised tokens of the whole global batch, and of the mean hinge over its
samples with pictures: packing, accumulation and the number of workers do not change them. Random numbers are a function
of (seed, step, rank): nothing of them needs saving.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_model import DpnOutput, RoutingReport
from dpn_model.not_finite import NotFiniteError
from dpn_model.processing import picture_inputs
from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import TrainConfig

Batch = dict[str, Any]
IGNORE_INDEX = -100


@dataclass
class StepResult:
    """What one optimiser step did on this rank.

    Attributes:
        step: 1-based.
        num_supervised_tokens: of the global batch.
        loss_lm: scalar on the device: sum of this rank's cross entropies over supervised tokens, divided by
            `num_supervised_tokens`; the sum over ranks is the loss of the global batch.
        num_pictured: samples of the global batch that have a picture.
        loss_terms: by name, terms of the method (before their weights) of this rank's micro-batches, each times its
            share of `num_pictured`; the sum over ranks is that of the global batch. Only those that were judged.
        num_unanswered: samples of the global batch without a supervised token, such as those whose question fills the
            processor's `max_length`.
        num_tokens: tokens of this rank that entered the decoder.
        sample_keys: samples this rank consumed.
        routing: reports of this rank's micro-batches.
        is_applied: whether the optimiser took the step, as far as the host knows without asking the device: False where
            DeepSpeed found a gradient that is not finite, and left the weights as they were.
        began, fetched, ended: seconds on the loop's clock: before the batches were asked for, when they were there, and
            after the optimiser step.
    """

    step: int
    num_supervised_tokens: int
    loss_lm: Tensor
    num_pictured: int = 0
    loss_terms: dict[str, Tensor] = field(default_factory=dict)
    num_unanswered: int = 0
    num_tokens: int = 0
    sample_keys: list[int] = field(default_factory=list)
    routing: list[RoutingReport] = field(default_factory=list)
    is_applied: bool = True
    began: float = 0.0
    fetched: float = 0.0
    ended: float = 0.0


class Callback(Protocol):
    """Called on every rank after every step."""

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Returns None to go on, or why the run ends here; all ranks must return the same."""


def run_loop(
    engine: Any,
    batches: Iterator[Batch],
    train: TrainConfig,
    *,
    start_step: int,
    callbacks: Sequence[Callback],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, str | None]:
    """Train from `start_step` to the configured number of steps, or until a callback stops it.

    Args:
        engine: DeepSpeed engine.
        batches: collated micro-batches of this rank, `gradient_accumulation_steps` for every step.
        train: steps, accumulation, seed.
        start_step: steps done by earlier attempts.
        callbacks: called after every step, in order.
        clock: seconds.

    Returns:
        Steps done over all attempts, and why the run was stopped (None: it ran to its end).
    """
    engine.train()
    for step in range(start_step + 1, train.steps + 1):
        torch.manual_seed(step_seed(train.seed, step, dist.get_rank()))
        engine.module.tell_progress((step - 1) / train.steps)
        began = clock()
        micro_batches = [next(batches) for _ in range(train.gradient_accumulation_steps)]
        fetched = clock()
        result = train_step(engine, micro_batches, step)
        result.began, result.fetched, result.ended = began, fetched, clock()
        reasons = [callback.after_step(engine, result) for callback in callbacks]
        stopped = next((reason for reason in reasons if reason is not None), None)
        if stopped is not None:
            return step, stopped
    engine.module.tell_progress(None)
    return train.steps, None


def train_step(engine: Any, micro_batches: Sequence[Batch], step: int) -> StepResult:
    """One optimiser step over this rank's micro-batches. Collective."""
    image_id = engine.module.image_token_id
    tokens, pictured, unanswered = _global_counts(micro_batches, image_id, engine.device)
    result = StepResult(step, tokens, torch.zeros((), device=engine.device), pictured, num_unanswered=unanswered)
    # DeepSpeed averages over ranks and accumulation; undo both.
    parts = dist.get_world_size() * len(micro_batches)
    for batch in micro_batches:
        out = _forward(engine, batch, step)
        assert out.loss is not None
        assert out.loss_lm is not None
        assert out.num_supervised_tokens is not None
        of_tokens = out.num_supervised_tokens / max(1, tokens)
        of_pictured = _num_pictured(batch, image_id) / max(1, pictured)
        loss = parts * (of_pictured * out.loss + (of_tokens - of_pictured) * out.loss_lm)
        # A loss that is not finite must not leave a gradient that is: whoever watches the gradient sees both.
        engine.backward(loss * torch.where(loss.detach().isfinite(), 1.0, math.nan))
        engine.step()
        result.loss_lm += out.loss_lm.detach() * of_tokens
        for name, term in (out.loss_terms or {}).items():
            result.loss_terms[name] = result.loss_terms.get(name, 0) + term.detach() * of_pictured
        _record(result, batch, out)
    result.is_applied = engine.was_step_applied()
    return result


def _forward(engine: Any, batch: Batch, step: int) -> DpnOutput:
    """A micro-batch through the model; what a sample spoils is told with its row."""
    try:
        out: DpnOutput = engine(**to_device(batch, engine.device, engine.module.lm_head.weight.dtype))
    except NotFiniteError as error:
        raise DpnError(f"step {step}: {error.named(batch['sample_keys'].tolist())}") from error
    return out


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step on one rank: a resumed run draws the same routes as an undisturbed one."""
    return (seed * 1_000_003 + step) * 4096 + rank


def to_device(batch: Batch, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor | None]:
    """Model inputs of a collated batch on the device; pictures of ours are normalised there, from uint8."""
    return {
        "input_ids": batch["input_ids"],  # ids and mask stay on the host, where the model packs them
        "attention_mask": batch["attention_mask"],
        "labels": batch["labels"].to(device, non_blocking=True),
        **picture_inputs(batch, device, dtype),
    }


def _global_counts(micro_batches: Sequence[Batch], image_id: int, device: torch.device) -> list[int]:
    """Supervised tokens, samples that have a picture, samples without a supervised token; of the global batch."""
    supervised = [batch["labels"][:, 1:] != IGNORE_INDEX for batch in micro_batches]
    tokens = sum(int(mask.sum()) for mask in supervised)
    unanswered = sum(int((~mask.any(dim=1)).sum()) for mask in supervised)
    pictured = sum(_num_pictured(batch, image_id) for batch in micro_batches)
    counts = torch.tensor([tokens, pictured, unanswered], device=device)
    if dist.get_world_size() > 1:
        dist.all_reduce(counts)
    totals: list[int] = counts.tolist()
    return totals


def _num_pictured(batch: Batch, image_id: int) -> int:
    return int((batch["input_ids"] == image_id).any(dim=1).sum())


def _record(result: StepResult, batch: Batch, out: DpnOutput) -> None:
    assert out.routing is not None
    result.num_tokens += sum(out.routing.text_tokens) + sum(out.routing.visual_tokens)
    result.sample_keys += batch["sample_keys"].tolist()
    result.routing.append(out.routing)
