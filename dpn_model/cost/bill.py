"""The whole bill of one sample: vision, projector, prefill, method, lm_head, decoding, and bytes of KV cache.

`flops.py` counts the decoder, in which methods differ and whose ratio is compared; this file adds what surrounds it.
Outside the decoder `eq8` and `swiglu` both count multiply-accumulates, and `true` twice as many operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn_model.cost.flops import (
    UNITS_PER_MAC,
    Convention,
    DecoderShape,
    decode_cost,
    layer_macs,
    layers_per_stage,
    sample_cost,
)


@dataclass(frozen=True)
class TowerShape:
    """A vision transformer as transformers runs it: every layer, also those behind the feature layer.

    Attributes:
        patch_values: numbers in one patch of pixels.
        patches: of a picture of the tower's own size.
        class_tokens: that run beside the patches; `class_tokens_kept` of them go on to the projector.
        has_pooling_head: SigLIP's pooled output, which no VLM reads: one query against all patches, and an MLP.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    patch_values: int
    patches: int
    class_tokens: int = 0
    class_tokens_kept: int = 0
    has_pooling_head: bool = False

    def macs(self, patches: int) -> int:
        """Multiply-accumulates of one picture of `patches` patches."""
        width, inner = self.hidden_size, self.intermediate_size
        blocks = vit_macs(width, inner, self.num_layers, patches + self.class_tokens)
        head = 2 * width**2 * (1 + patches) + 2 * width * patches + 2 * width * inner if self.has_pooling_head else 0
        return patches * self.patch_values * width + blocks + head


@dataclass(frozen=True)
class ModelShape:
    """What the cost of a base model follows from.

    Attributes:
        decoder: shape of the language model.
        image_grid: visual tokens of one image that enter it, as (height, width); None where every image has its own.
        vision_macs, projector_macs: multiply-accumulates of one image (or tile) of the tower's own size; None where
            nobody has counted them.
        tower: of LLaVA, which takes pictures of other sizes too.
    """

    decoder: DecoderShape
    image_grid: tuple[int, int] | None = None
    vision_macs: int | None = None
    projector_macs: int | None = None
    tower: TowerShape | None = None

    def vision_and_projector(self, run: SampleRun) -> tuple[int, int]:
        """Multiply-accumulates of all pictures of a sample, each at its own size.

        Raises:
            ValueError: a base whose vision tower has no account.
        """
        if self.vision_macs is None or self.projector_macs is None:
            raise ValueError("this base's vision tower has no account; `prefill_cost` and `kv_groups` need none")
        native = run.num_images - len(run.other_sizes)
        vision, projector = native * self.vision_macs, native * self.projector_macs
        if run.other_sizes:
            assert self.tower is not None
            kept = self.tower.class_tokens_kept
            vision += sum(self.tower.macs(patches) for patches in run.other_sizes)
            per_token = self.projector_macs // (self.tower.patches + kept)
            projector += sum(patches + kept for patches in run.other_sizes) * per_token
        return vision, projector


def vit_macs(width: int, intermediate_size: int, num_layers: int, num_tokens: int) -> int:
    """Blocks of a vision transformer: its FFN has two matrices, so its layer costs exactly F(n) of eq. 8."""
    return num_layers * layer_macs(num_tokens, DecoderShape(width, intermediate_size, num_layers), "eq8")


def mlp2x_macs(vision_size: int, hidden_size: int) -> int:
    """One visual token through the projector of LLaVA-1.5: Linear, GELU, Linear."""
    return vision_size * hidden_size + hidden_size**2


@dataclass(frozen=True)
class SampleRun:
    """What one sample ran: tokens per stage, images, and what the method itself spent.

    Attributes:
        sites: 1-based layers after which a reduction ran, ascending.
        visual_tokens: before the first site and after each.
        text_tokens: all other tokens.
        num_images: encoded for this sample.
        method_macs: multiply-accumulates of routers and scores.
        other_sizes: patches of those images that have not the tower's own size.
    """

    sites: tuple[int, ...]
    visual_tokens: tuple[int, ...]
    text_tokens: int
    num_images: int
    method_macs: int = 0
    other_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class CostParts:
    """Cost of one sample by part, in the unit of one convention.

    Attributes:
        vision, projector: of all its images.
        prefill: decoder layers over the prompt; `sample_cost(...).total`.
        method: routers and scores of the reduction method.
        lm_head: one logit row, the one that gives the first answer token.
        decode_per_token: decoder layers for the first generated token; each further one attends to one more.
    """

    vision: int
    projector: int
    prefill: int
    method: int
    lm_head: int
    decode_per_token: int

    @property
    def total(self) -> int:
        """Up to the first answer token: everything but `decode_per_token`."""
        return self.vision + self.projector + self.prefill + self.method + self.lm_head


def cost_parts(shape: ModelShape, run: SampleRun, convention: Convention) -> CostParts:
    """The bill of one sample.

    Raises:
        ValueError: unknown convention, tokens that do not fit the sites, or a base whose vision tower has no account.
    """
    vision, projector = shape.vision_and_projector(run)
    decoder = shape.decoder
    counted = (decoder, run.sites, run.visual_tokens, run.text_tokens, convention)
    prefill = sample_cost(*counted).total
    unit = UNITS_PER_MAC[convention]
    return CostParts(
        vision=unit * vision,
        projector=unit * projector,
        prefill=prefill,
        method=unit * run.method_macs,
        lm_head=unit * decoder.hidden_size * decoder.vocab_size,
        decode_per_token=decode_cost(*counted),
    )


@dataclass(frozen=True)
class KvGroup:
    """KV cache of the layers between two sites after prefill: `first_layer` to `last_layer`, 1-based, inclusive."""

    first_layer: int
    last_layer: int
    tokens: int
    num_bytes: int


def kv_groups(decoder: DecoderShape, run: SampleRun, bytes_per_element: int = 2) -> list[KvGroup]:
    """KV cache of one sample, layer group by layer group.

    Args:
        decoder: shape of the language model.
        run: what the sample ran.
        bytes_per_element: of keys and values; 2 for fp16 and bf16.
    """
    groups: list[KvGroup] = []
    first = 1
    for layers, visual in zip(layers_per_stage(decoder.num_layers, run.sites), run.visual_tokens, strict=True):
        tokens = visual + run.text_tokens
        num_bytes = layers * tokens * 2 * decoder.kv_width * bytes_per_element
        groups.append(KvGroup(first, first + layers - 1, tokens, num_bytes))
        first += layers
    return groups
