"""What a forward pass returns, and the report of its routing.

Shape letters: B samples, T packed tokens, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers.utils import ModelOutput

from dpn_model.bases.vision.contract import NATIVE
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cost.bill import CostParts, KvGroup, ModelShape, SampleRun, cost_parts, kv_groups
from dpn_model.cost.flops import Convention, SampleCost, sample_cost
from dpn_model.methods.contract import ReductionRecord
from dpn_model.packing import PackedSequence


@dataclass(frozen=True)
class RoutingReport:
    """What every reduction of one forward pass did, and the token counts its cost follows from.

    Attributes:
        records: one per site, in order of depth.
        text_tokens: tokens per sample that are not visual (system prompt, question, answer, routing tokens).
        visual_tokens: per sample, before the first reduction.
        shape: of the model that ran; None where a report was made without one, which then has no cost.
        num_images: runs of the vision tower per sample: pictures, or tiles where a base cuts them; known where `shape`
            is.
        other_sizes: per sample, patches of those of its pictures that have not the tower's own size; () for none.
    """

    records: tuple[ReductionRecord, ...]
    text_tokens: tuple[int, ...]
    visual_tokens: tuple[int, ...]
    shape: ModelShape | None = None
    num_images: tuple[int, ...] = ()
    other_sizes: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of_pass(
        cls,
        packed: PackedSequence,
        records: Sequence[ReductionRecord],
        shape: ModelShape,
        runs: Sequence[Sequence[int]],
    ) -> RoutingReport:
        """The report of a forward pass over a batch `packed`; `runs` as in `PackedInputs.tower_runs`."""
        visual = packed.visual_tokens()
        text = tuple(length - tokens for length, tokens in zip(packed.lengths, visual, strict=True))
        num_images = tuple(len(patches) for patches in runs)
        other_sizes = tuple(tuple(number for number in patches if number != NATIVE) for patches in runs)
        return cls(tuple(records), text, visual, shape, num_images, other_sizes)

    def detached(self) -> RoutingReport:
        """The same without gradients: what is kept beyond a step keeps no graph alive, and can be copied."""
        return replace(self, records=tuple(record.detached() for record in self.records))

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

    def run(self, sample: int) -> SampleRun:
        """What one sample ran, as the account reads it."""
        return SampleRun(
            sites=self.sites,
            visual_tokens=self.visual_tokens_per_stage(sample),
            text_tokens=self.text_tokens[sample],
            num_images=self.num_images[sample],
            other_sizes=self.other_sizes[sample] if self.other_sizes else (),
            method_macs=sum(record.method_macs[sample] for record in self.records if record.method_macs),
        )

    def cost(self, sample: int, convention: Convention = "true") -> CostParts:
        """Cost of one sample by part (vision, projector, prefill, method, lm_head, decoding)."""
        return cost_parts(self._shape(), self.run(sample), convention)

    def prefill_cost(self, sample: int, convention: Convention) -> SampleCost:
        """Decoder prefill of one sample, with and without reduction; its `ratio` is the FLOPs ratio."""
        stages = self.visual_tokens_per_stage(sample)
        return sample_cost(self._shape().decoder, self.sites, stages, self.text_tokens[sample], convention)

    def kv_groups(self, sample: int, bytes_per_element: int = 2) -> list[KvGroup]:
        """KV cache of one sample after prefill, per group of layers that hold the same tokens."""
        return kv_groups(self._shape().decoder, self.run(sample), bytes_per_element)

    def _shape(self) -> ModelShape:
        if self.shape is None:
            raise ValueError("a RoutingReport without a model shape has no cost; take one from a forward pass")
        return self.shape

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
        past_key_values: the cache that was given, filled; `cache` too with transformers 5.24 and newer.
    """

    loss: Tensor | None = None
    loss_lm: Tensor | None = None
    loss_routing: Tensor | None = None
    logits: Tensor | None = None
    num_supervised_tokens: int | None = None
    routing: RoutingReport | None = None
    if CACHE_NAME == "cache":
        cache: PackedCache | None = None
    else:
        past_key_values: PackedCache | None = None
