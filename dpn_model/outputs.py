"""What a forward pass returns, and the report of its routing.

Shape letters: B samples, T packed tokens, C vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor
from transformers.utils import ModelOutput

from dpn_model.bases.vision.contract import NATIVE
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cost.bill import CostParts, ModelShape, cost_parts
from dpn_model.cost.flops import Convention
from dpn_model.cost.ledger import KvGroup, LayerLoad, Ledger, Rows, SampleCost, layers_per_stage
from dpn_model.decoder import DecoderPass
from dpn_model.methods.records import PatchRecord, ReductionRecord


@dataclass(frozen=True)
class RoutingReport:
    """What a method did in one forward pass, and the ledger its cost follows from.

    Attributes:
        records: one per reduction, in order of depth; a selector's is the first, at layer 0.
        text_tokens: tokens per sample that are not visual (system prompt, question, answer, routing tokens).
        visual_tokens: per sample, as the base alone would run them.
        shape: of the model that ran; None where a report was made without one, which then has no cost.
        num_images: runs of the vision tower per sample: pictures, or tiles where a base cuts them; known where `shape`
            is.
        other_sizes: per sample, patches of those of its pictures that have not the tower's own size; () for none.
        patches: one per patched layer, in order.
        macs: by tag, multiply-accumulates per sample spent beside what the records tell ("probe", "projector").
        base_sizes: `other_sizes` as the base alone would run them.
        num_objects: rows of `text_tokens` that are features of boxes; () where a report was made without.
    """

    records: tuple[ReductionRecord, ...]
    text_tokens: tuple[int, ...]
    visual_tokens: tuple[int, ...]
    shape: ModelShape | None = None
    num_images: tuple[int, ...] = ()
    other_sizes: tuple[tuple[int, ...], ...] = ()
    patches: tuple[PatchRecord, ...] = ()
    macs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    base_sizes: tuple[tuple[int, ...], ...] = ()
    num_objects: tuple[int, ...] = ()

    @classmethod
    def of_pass(
        cls,
        before: Sequence[Rows],
        selections: Sequence[ReductionRecord],
        done: DecoderPass,
        shape: ModelShape,
        runs: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]],
        macs: Mapping[str, tuple[int, ...]],
        num_objects: tuple[int, ...] = (),
    ) -> RoutingReport:
        """The report of a forward pass.

        Args:
            before: rows of every sample as the base alone would run them.
            selections: what was selected before the decoder.
            done: what the decoder ran.
            shape: of the model.
            runs: per sample, of the tower (`ImageSide.tower_runs`): as it ran, and as the base alone would run it.
            macs: spent before the decoder.
            num_objects: rows per sample that are features of boxes.
        """
        sizes, base_sizes = (
            tuple(tuple(number for number in patches if number != NATIVE) for patches in one) for one in runs
        )
        return cls(
            (*selections, *done.reductions),
            tuple(rows.text for rows in before),
            tuple(rows.visual for rows in before),
            shape,
            tuple(len(patches) for patches in runs[0]),
            sizes,
            done.patches,
            {**macs, "probe": done.probe_macs} if any(done.probe_macs) else macs,
            base_sizes,
            num_objects,
        )

    def detached(self) -> RoutingReport:
        """The same without gradients: what is kept beyond a step keeps no graph alive, and can be copied."""
        return replace(
            self,
            records=tuple(record.detached() for record in self.records),
            patches=tuple(patch.detached() for patch in self.patches),
        )

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self.text_tokens)

    @property
    def sites(self) -> tuple[int, ...]:
        """1-based layers after which a reduction ran."""
        return tuple(record.layer for record in self.records)

    @property
    def _all(self) -> list[ReductionRecord | PatchRecord]:
        return [*self.records, *self.patches]

    def route(self, sample: int) -> tuple[str, ...]:
        """What was chosen for one sample at each site, then at each patched layer."""
        return tuple(record.choices[sample] for record in self._all)

    def visual_tokens_per_stage(self, sample: int) -> tuple[int, ...]:
        """Visual tokens of one sample before the first site and after each."""
        return (self.visual_tokens[sample], *(record.tokens_out[sample] for record in self.records))

    def ledger(self, sample: int) -> Ledger:
        """What every layer ran of one sample, and what was spent beside them: every cost is read from this."""
        layers = self._shape().decoder.num_layers
        text, patched = self.text_tokens[sample], {patch.layer: patch for patch in self.patches}
        macs: dict[str, int] = {tag: spent[sample] for tag, spent in self.macs.items()}
        for record in self._all:
            for tag, spent in record.macs.items():
                macs[tag] = macs.get(tag, 0) + spent[sample]
        more = {
            "num_images": self.num_images[sample],
            "other_sizes": self.other_sizes[sample] if self.other_sizes else (),
            "base_sizes": self.base_sizes[sample] if self.base_sizes else (),
            "num_objects": self.num_objects[sample] if self.num_objects else 0,
            "macs": macs,
        }
        stages = self.visual_tokens_per_stage(sample)
        forgotten = {
            record.layer: record.tokens_out[sample]
            for record in self.records
            if record.is_forgotten and record.tokens_in[sample]
        }
        if not patched and not forgotten:
            return Ledger.of_stages(layers, self.sites, stages, text, **more)
        loads: list[LayerLoad] = []
        for count, visual in zip(layers_per_stage(layers, self.sites), stages, strict=True):
            for _ in range(count):
                rows = Rows(visual, text)
                patch = patched.get(len(loads) + 1)
                loads.append(LayerLoad.whole(rows) if patch is None else patch.load(sample, rows))
        for layer, kept in forgotten.items():
            loads[:layer] = [replace(load, keys=Rows(kept, text)) for load in loads[:layer]]
        return Ledger.of_layers(Rows(self.visual_tokens[sample], text), loads, **more)

    def cost(self, sample: int, convention: Convention = "true") -> CostParts:
        """Cost of one sample by part (vision, projector, prefill, method, lm_head, decoding)."""
        return cost_parts(self._shape(), self.ledger(sample), convention)

    def prefill_cost(self, sample: int, convention: Convention) -> SampleCost:
        """Decoder prefill of one sample, with and without the method; its `ratio` is the FLOPs ratio."""
        return self.ledger(sample).prefill(self._shape().decoder, convention)

    def kv_groups(self, sample: int, bytes_per_element: int = 2) -> list[KvGroup]:
        """KV cache of one sample after prefill, per group of layers that hold the same tokens."""
        return self.ledger(sample).kv_groups(self._shape().decoder, bytes_per_element)

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
        loss: loss_lm + the method's terms, each times its weight (eq. 7), where labels were given.
        loss_lm: mean cross entropy over supervised tokens.
        loss_terms: by name, before their weights; "routing" is the hinge of eq. 6. Without those that had nothing to
            judge.
        logits: float[B, C], of every sample's last token, where no labels were given; float[B, K, C] of its last K
            with `logits_to_keep` = K.
        num_supervised_tokens: tokens `loss_lm` is the mean of.
        routing: what the reductions did.
        past_key_values: the cache that was given, filled; `cache` too with transformers 5.24 and newer.
    """

    loss: Tensor | None = None
    loss_lm: Tensor | None = None
    loss_terms: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    num_supervised_tokens: int | None = None
    routing: RoutingReport | None = None
    if CACHE_NAME == "cache":
        cache: PackedCache | None = None
    else:
        past_key_values: PackedCache | None = None

    @property
    def loss_routing(self) -> Tensor | None:
        """The hinge of eq. 6, before λ; None where nothing was routed."""
        return (self.loss_terms or {}).get("routing")
