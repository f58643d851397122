"""The ledger of one sample: what every layer ran, what the method spent beside it; every cost is read from this.

Shape letters: none; everything is a count on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from dpn_model.cost.flops import UNITS_PER_MAC, Convention, DecoderShape, layer_terms

#: tag of a projector that stands in place of the base's own
PROJECTOR = "projector"


class Rows(NamedTuple):
    """Rows of one sample: visual tokens, and all others."""

    visual: int
    text: int

    def counted(self, convention: Convention) -> int:
        """Rows that the convention counts: `eq8` leaves text out."""
        return self.visual if convention == "eq8" else self.visual + self.text


@dataclass(frozen=True)
class LayerLoad:
    """What one layer ran of one sample.

    Attributes:
        stream: rows in the residual stream.
        attention: rows that queried, and that were looked at.
        ffn: rows that went through the FFN.
        keys: rows that own keys and values behind the prompt.
        ffn_factor: multiply-accumulates of the FFN per row, over the dense one's.
        runs_new: whether a token behind the cache runs the layer.
        new_macs: multiply-accumulates that such a token costs beside the layer, or in its place.
    """

    stream: Rows
    attention: Rows
    ffn: Rows
    keys: Rows
    ffn_factor: float = 1.0
    runs_new: bool = True
    new_macs: int = 0

    @classmethod
    def whole(cls, rows: Rows) -> LayerLoad:
        """A layer that ran all rows, as the base does."""
        return cls(rows, rows, rows, rows)


@dataclass(frozen=True)
class SampleCost:
    """Cost of one sample's prefill, with and without the method, in the unit of one convention."""

    total: int
    dense: int

    @property
    def ratio(self) -> float:
        """total / dense; 1.0 where nothing is counted (a text-only sample under eq8)."""
        return self.total / self.dense if self.dense else 1.0


@dataclass(frozen=True)
class KvGroup:
    """KV cache of neighbouring layers that hold the same rows: `first_layer` to `last_layer`, 1-based, inclusive."""

    first_layer: int
    last_layer: int
    tokens: int
    num_bytes: int


@dataclass(frozen=True)
class Ledger:
    """One sample's forward pass, layer by layer.

    Attributes:
        packed: rows as the base alone would run them: the denominator of every ratio.
        stages: (number of layers, load), neighbouring layers of equal load together, in order of depth.
        num_images: runs of the vision tower: pictures, or tiles where a base cuts them.
        other_sizes: patches of those pictures that have not the tower's own size.
        base_sizes: the same as the base alone would run them: where a method shrinks pictures, the two differ.
        num_objects: rows of the text that are features of boxes.
        macs: multiply-accumulates beside the decoder's layers, by tag: "router", "probe", "selector", "projector"
            (in place of the base's own), or a method's own tag.
    """

    packed: Rows
    stages: tuple[tuple[int, LayerLoad], ...]
    num_images: int = 0
    other_sizes: tuple[int, ...] = ()
    macs: Mapping[str, int] = field(default_factory=dict)
    base_sizes: tuple[int, ...] = ()
    num_objects: int = 0

    @classmethod
    def of_layers(cls, packed: Rows, loads: Sequence[LayerLoad], **more: object) -> Ledger:
        """From one load per layer."""
        return cls(packed, tuple((len(list(same)), load) for load, same in groupby(loads)), **more)  # type: ignore[arg-type]

    @classmethod
    def of_stages(
        cls, num_layers: int, sites: Sequence[int], visual_tokens: Sequence[int], text_tokens: int, **more: object
    ) -> Ledger:
        """Of a method that leaves layers whole and takes visual tokens away between them.

        Args:
            num_layers: of the decoder.
            sites: 1-based layers after which it did, ascending; 0: before the first.
            visual_tokens: before the first site and after each (len(sites) + 1).
            text_tokens: all other rows.
            more: further attributes of the ledger.

        Raises:
            ValueError: a wrong number of `visual_tokens`.
        """
        layers = layers_per_stage(num_layers, sites)
        stages = tuple(
            (count, LayerLoad.whole(Rows(visual, text_tokens)))
            for count, visual in zip(layers, visual_tokens, strict=True)
            if count
        )
        return cls(Rows(visual_tokens[0], text_tokens), stages, **more)  # type: ignore[arg-type]

    @property
    def num_layers(self) -> int:
        """Of the decoder."""
        return sum(count for count, _ in self.stages)

    @property
    def sites(self) -> tuple[int, ...]:
        """1-based layers behind which another stage begins."""
        return tuple(accumulate(count for count, _ in self.stages))[:-1]

    @property
    def visual_tokens(self) -> tuple[int, ...]:
        """Visual tokens in the stream, stage by stage."""
        return tuple(load.stream.visual for _, load in self.stages)

    def prefill(self, shape: DecoderShape, convention: Convention) -> SampleCost:
        """Cost of the decoder's layers over the prompt.

        Raises:
            ValueError: unknown convention.
        """
        terms = layer_terms(shape, convention)
        total = 0
        for count, load in self.stages:
            attention, ffn = load.attention.counted(convention), load.ffn.counted(convention)
            layer = terms.projections * attention + terms.pair * attention**2
            total += count * (layer + round(load.ffn_factor * terms.ffn * ffn))
        rows = self.packed.counted(convention)
        return SampleCost(total, self.num_layers * ((terms.projections + terms.ffn) * rows + terms.pair * rows**2))

    def decode(self, shape: DecoderShape, convention: Convention) -> int:
        """Cost of the first generated token in the decoder, without lm_head (peer-methods 1, rule 4).

        In every layer that runs it, it attends to what that layer has cached and to itself.
        """
        terms, total = layer_terms(shape, convention), 0
        for count, load in self.stages:
            layer = terms.projections + round(load.ffn_factor * terms.ffn)
            layer += terms.pair * (load.keys.counted(convention) + 1)
            total += count * (layer * load.runs_new + UNITS_PER_MAC[convention] * load.new_macs)
        return total

    def mean_visual_tokens(self) -> float:
        """Depth-weighted visual tokens: the mean over layers of those that ran in the layer's attention."""
        return sum(count * load.attention.visual for count, load in self.stages) / self.num_layers

    def kv_groups(self, shape: DecoderShape, bytes_per_element: int = 2) -> list[KvGroup]:
        """KV cache after prefill, per group of layers; 2 bytes an element for fp16 and bf16."""
        ends = list(accumulate((count for count, _ in self.stages), initial=0))
        groups = []
        for (first, last), (count, load) in zip(pairwise(ends), self.stages, strict=True):
            tokens = sum(load.keys)
            groups.append(KvGroup(first + 1, last, tokens, count * tokens * 2 * shape.kv_width * bytes_per_element))
        return groups

    def kv_bytes(self, shape: DecoderShape, bytes_per_element: int = 2) -> int:
        """Bytes of keys and values after prefill, all layers together."""
        return sum(group.num_bytes for group in self.kv_groups(shape, bytes_per_element))


def layers_per_stage(num_layers: int, sites: Sequence[int]) -> list[int]:
    """Layers before the first site, between sites, and after the last."""
    return [last - first for first, last in pairwise((0, *sites, num_layers))]


def sample_cost(
    shape: DecoderShape,
    sites: Sequence[int],
    visual_tokens: Sequence[int],
    text_tokens: int,
    convention: Convention,
) -> SampleCost:
    """Prefill of a sample whose visual tokens are taken away between layers; arguments as in `Ledger.of_stages`."""
    return Ledger.of_stages(shape.num_layers, sites, visual_tokens, text_tokens).prefill(shape, convention)
