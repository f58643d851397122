"""What a forward pass returns, and the report of its routing.

Shape letters: B samples, T packed tokens, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput

from dpn_model.cache import PackedCache
from dpn_model.reduction import ReductionRecord


@dataclass(frozen=True)
class RoutingReport:
    """What every reduction of one forward pass did, and the token counts its cost follows from.

    Attributes:
        records: one per site, in order of depth.
        text_tokens: tokens per sample that are not visual (system prompt, question, answer, routing tokens).
        visual_tokens: per sample, before the first reduction.
    """

    records: tuple[ReductionRecord, ...]
    text_tokens: tuple[int, ...]
    visual_tokens: tuple[int, ...]

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self.text_tokens)

    @property
    def sites(self) -> tuple[int, ...]:
        """1-based layers after which a reduction ran."""
        return tuple(record.layer for record in self.records)

    def route(self, sample: int) -> tuple[str, ...]:
        """What was chosen for one sample at each site."""
        return tuple(record.choices[sample] for record in self.records)

    def visual_tokens_per_stage(self, sample: int) -> tuple[int, ...]:
        """Visual tokens of one sample before the first site and after each."""
        return (self.visual_tokens[sample], *(record.tokens_out[sample] for record in self.records))

    @staticmethod
    def concatenate(reports: Sequence[RoutingReport]) -> list[tuple[RoutingReport, int]]:
        """(report, sample) of every sample of several batches, in order."""
        return [(report, sample) for report in reports for sample in range(report.num_samples)]


@dataclass
class DpnOutput(ModelOutput):
    """Output of `DpnForConditionalGeneration.forward`.

    Attributes:
        loss: loss_lm + λ * loss_routing (eq. 7), where labels were given.
        loss_lm: mean cross entropy over supervised tokens.
        loss_routing: the hinge of eq. 6, before λ; None for methods without a router.
        logits: float[B, C], of every sample's last token, where no labels were given; float[B, K, C] of its last K
            with `logits_to_keep` = K.
        num_supervised_tokens: tokens `loss_lm` is the mean of.
        routing: what the reductions did.
        past_key_values: the cache that was given, filled.
    """

    loss: Tensor | None = None
    loss_lm: Tensor | None = None
    loss_routing: Tensor | None = None
    logits: Tensor | None = None
    num_supervised_tokens: int | None = None
    routing: RoutingReport | None = None
    past_key_values: PackedCache | None = None
