"""Operations of training steps that ran, from the reports of their forward passes.

A backward pass costs two forward passes: one for the gradient of the inputs, one for that of the weights, which frozen
weights save; activation checkpointing runs layers once more, and what is computed again counts as work. Where nothing
below it is trained, a part runs forward alone. `dpn plan` tells the same figures beforehand (the tests compare them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from dpn_model import RoutingReport
from dpn_model.cost.flops import UNITS_PER_MAC, DecoderShape

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = 1.0, 1.0, 1.0


@dataclass(frozen=True)
class Passes:
    """How often each part of the model runs in a training step, in forward passes."""

    vision: float
    projector: float
    decoder: float
    head: float

    @classmethod
    def of(cls, model: nn.Module, *, is_checkpointed: bool) -> Passes:
        """Of a model whose trained parameters require gradients; low-rank adapters run beside the decoder's weights."""
        counts = {part: [0, 0] for part in ("vision", "projector", "decoder", "head", "adapters")}
        for name, parameter in model.named_parameters():
            size = getattr(parameter, "ds_numel", parameter.numel())  # ZeRO-3 keeps a shard, which knows the whole
            if (part := _part_of(name)) is not None:
                counts[part][0] += size if parameter.requires_grad else 0
                counts[part][1] += size
        shares = {part: trained / total if total else 0.0 for part, (trained, total) in counts.items()}
        again = FORWARD if is_checkpointed else 0.0
        gradients = {part: share * WEIGHT_GRADIENT for part, share in shares.items()}
        beside = counts["adapters"][1] / max(counts["decoder"][1], 1)
        trained = FORWARD + INPUT_GRADIENT + WEIGHT_GRADIENT
        trains_vision = shares["vision"] > 0
        trains_below_decoder = trains_vision or shares["projector"] > 0
        return cls(
            vision=FORWARD + (INPUT_GRADIENT + gradients["vision"] + again if trains_vision else 0.0),
            projector=FORWARD + gradients["projector"] + (INPUT_GRADIENT if trains_below_decoder else 0.0),
            decoder=FORWARD + INPUT_GRADIENT + gradients["decoder"] + again + beside * (trained + again),
            head=FORWARD + INPUT_GRADIENT + gradients["head"],
        )


@dataclass(frozen=True)
class StepFlops:
    """Operations (`true`: two per multiply-accumulate) of some forward passes and what trained on them.

    Attributes:
        executed: everything that ran, lm_head left out (see `head_flops`); None where nobody has counted the tower.
        prefill, prefill_dense: of the decoder's forward pass alone, and the same without reduction.
        prefill_eq8, prefill_dense_eq8: in the paper's convention.
    """

    executed: float | None
    prefill: int
    prefill_dense: int
    prefill_eq8: int
    prefill_dense_eq8: int


def step_flops(reports: Sequence[RoutingReport], passes: Passes) -> StepFlops:
    """The account of some micro-batches. A mean of costs: every sample is counted by its own lengths."""
    executed = 0.0
    is_counted = all(report.shape is not None and report.shape.vision_macs is not None for report in reports)
    sums = {"true": [0, 0], "eq8": [0, 0]}
    for report in reports:
        for sample in range(report.num_samples):
            for convention, (total, dense) in sums.items():
                cost = report.prefill_cost(sample, convention)  # type: ignore[arg-type]
                sums[convention] = [total + cost.total, dense + cost.dense]
            executed += _executed(report, sample, passes) if is_counted else 0.0
    return StepFlops(executed if is_counted else None, *sums["true"], *sums["eq8"])


def head_flops(decoder: DecoderShape, num_supervised_tokens: int, passes: Passes) -> float:
    """lm_head of a training step: it runs on supervised rows only."""
    return passes.head * UNITS_PER_MAC["true"] * decoder.vocab_size * decoder.hidden_size * num_supervised_tokens


def _executed(report: RoutingReport, sample: int, passes: Passes) -> float:
    parts = report.cost(sample, "true")
    trained_method = FORWARD + INPUT_GRADIENT + WEIGHT_GRADIENT
    return (
        passes.vision * parts.vision
        + passes.projector * (parts.projector + parts.objects)
        + passes.decoder * parts.prefill
        + trained_method * parts.method
    )


def _part_of(name: str) -> str | None:
    """Part of the model a parameter belongs to; None for reducers and embeddings, which multiply next to nothing."""
    if any(part in name for part in ("reducers.", "patches.", "selector.")) or "embed_tokens" in name:
        return None
    if "lora_" in name:
        return "adapters"
    if "vision_tower" in name:
        return "vision"
    if "projector" in name:
        return "projector"
    return "head" if "lm_head" in name else "decoder"
