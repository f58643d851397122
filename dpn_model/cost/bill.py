"""The whole bill of one sample: vision, projector, prefill, method, lm_head, decoding, and bytes of KV cache.

`flops.py` counts the decoder, in which methods differ and whose ratio is compared; this file adds what surrounds it.
Outside the decoder `eq8` and `swiglu` both count multiply-accumulates, and `true` twice as many operations.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpn_model.cost.flops import UNITS_PER_MAC, Convention, DecoderShape, layer_macs
from dpn_model.cost.ledger import PROJECTOR, Ledger


@dataclass(frozen=True)
class TowerShape:
    """A vision transformer as transformers runs it: every layer, also those behind the feature layer.

    Attributes:
        patch_values: numbers in one patch of pixels.
        patches: of a picture of the tower's own size.
        class_tokens: that run beside the patches; `class_tokens_kept` of them go on to the projector.
        num_heads: of its attention; 0 where nobody has said.
        has_pooling_head: SigLIP's pooled output, which no VLM reads: one query against all patches, and an MLP.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    patch_values: int
    patches: int
    class_tokens: int = 0
    class_tokens_kept: int = 0
    num_heads: int = 0
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
        vision_size: width of the features in front of the projector; None where no part can have them.
        object_macs: multiply-accumulates of one object's features and their projector.
    """

    decoder: DecoderShape
    image_grid: tuple[int, int] | None = None
    vision_macs: int | None = None
    projector_macs: int | None = None
    tower: TowerShape | None = None
    vision_size: int | None = None
    object_macs: int = 0

    @property
    def tower_levels(self) -> int | None:
        """Hidden states of the tower that a part may read beside its features: 0 to this; None: no others."""
        is_one_level = self.tower is not None and self.vision_size == self.tower.hidden_size
        return self.tower.num_layers if self.tower is not None and is_one_level else None

    def vision_and_projector(self, ledger: Ledger) -> tuple[int, int]:
        """Multiply-accumulates of all pictures of a sample, each at its own size.

        Raises:
            ValueError: a base whose vision tower has no account.
        """
        if self.vision_macs is None or self.projector_macs is None:
            raise ValueError("this base's vision tower has no account; `prefill_cost` and `kv_groups` need none")
        native = ledger.num_images - len(ledger.other_sizes)
        vision, projector = native * self.vision_macs, native * self.projector_macs
        if ledger.other_sizes:
            assert self.tower is not None
            kept = self.tower.class_tokens_kept
            vision += sum(self.tower.macs(patches) for patches in ledger.other_sizes)
            per_token = self.projector_macs // (self.tower.patches + kept)
            projector += sum(patches + kept for patches in ledger.other_sizes) * per_token
        return vision, ledger.macs.get(PROJECTOR, projector)


def vit_macs(width: int, intermediate_size: int, num_layers: int, num_tokens: int) -> int:
    """Blocks of a vision transformer: its FFN has two matrices, so its layer costs exactly F(n) of eq. 8."""
    return num_layers * layer_macs(num_tokens, DecoderShape(width, intermediate_size, num_layers), "eq8")


def mlp2x_macs(vision_size: int, hidden_size: int) -> int:
    """One visual token through the projector of LLaVA-1.5: Linear, GELU, Linear."""
    return vision_size * hidden_size + hidden_size**2


@dataclass(frozen=True)
class CostParts:
    """Cost of one sample by part, in the unit of one convention.

    Attributes:
        vision, projector: of all its images.
        objects: features of all its boxes, and their projector.
        prefill: decoder layers over the prompt; `sample_cost(...).total`.
        method: what the method spent beside the layers (routers, probes, selectors).
        lm_head: one logit row, the one that gives the first answer token.
        decode_per_token: decoder layers for the first generated token; each further one attends to one more.
    """

    vision: int
    projector: int
    prefill: int
    method: int
    lm_head: int
    decode_per_token: int
    objects: int = 0

    @property
    def total(self) -> int:
        """Up to the first answer token: everything but `decode_per_token`."""
        return self.vision + self.projector + self.objects + self.prefill + self.method + self.lm_head


def cost_parts(shape: ModelShape, ledger: Ledger, convention: Convention) -> CostParts:
    """The bill of one sample.

    Raises:
        ValueError: unknown convention, or a base whose vision tower has no account.
    """
    vision, projector = shape.vision_and_projector(ledger)
    decoder = shape.decoder
    unit = UNITS_PER_MAC[convention]
    return CostParts(
        vision=unit * vision,
        projector=unit * projector,
        prefill=ledger.prefill(decoder, convention).total,
        method=unit * sum(macs for tag, macs in ledger.macs.items() if tag != PROJECTOR),
        lm_head=unit * decoder.hidden_size * decoder.vocab_size,
        decode_per_token=ledger.decode(decoder, convention),
        objects=unit * ledger.num_objects * shape.object_macs,
    )
