"""Settings and plan of LLaVA-Mini (arXiv 2501.03895; spec peer-methods 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape, mlp2x_macs
from dpn_model.cost.flops import layer_macs
from dpn_model.cost.ledger import PROJECTOR
from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, plan_in_front

HEADS = 8


@dataclass(frozen=True)
class LlavaMiniSettings(ProjectorSettings):
    """Settings of LLaVA-Mini.

    Attributes:
        depth: pre-fusion layers, over all tokens of a picture, the compressed ones and the instruction.
        side: a picture is compressed to side x side tokens; the authors' models have 1, their code's default is 2.
    """

    name: ClassVar[str] = "llava_mini"
    depth: int = setting(4, "layers in front of the decoder that fuse picture and words", ge=1)
    side: int = setting(1, "a picture becomes side x side tokens", ge=1)

    def sizes(self, shape: ModelShape | None) -> Sizes:
        """Of a base.

        Raises:
            ValueError: one that shows no patches, has too few layers, or a width that the heads do not divide.
        """
        sizes = Sizes.of(shape)
        assert shape is not None
        if self.depth > shape.decoder.num_layers:
            raise ValueError(
                f"depth = {self.depth}: layers begin as the decoder's first; allowed: 1 to {shape.decoder.num_layers}"
            )
        if sizes.vision_size % HEADS:
            raise ValueError(
                f"name = llava_mini: its compressor has {HEADS} heads, the tower a width of {sizes.vision_size}; "
                f"allowed: multiples of {HEADS}"
            )
        return sizes

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """One row of patches and what is compressed of them; the fusion takes them apart."""
        return 1, sizes.patches + self.side**2

    def macs(self, sizes: Sizes) -> int:
        """The compressor's cross attention, and LLaVA's MLP."""
        width, compressed = sizes.vision_size, self.side**2
        attention = 2 * (sizes.patches + compressed) * width**2 + 2 * compressed * sizes.patches * width
        return attention + (sizes.patches + compressed) * mlp2x_macs(width, sizes.hidden_size)


def plan(settings: LlavaMiniSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same for every sample: pre-fusion over everything, then the decoder over the words and what is compressed."""
    return _fusing(settings, shape, text_tokens, text_tokens)


def trains(settings: LlavaMiniSettings, shape: ModelShape, text_tokens: int) -> list[Planned]:
    """Answers are not fused: from no word of a sample to all of them."""
    none, every = (_fusing(settings, shape, text_tokens, words) for words in (0, text_tokens))
    return [Planned(none.cheapest, every.dearest)]


def _fusing(settings: LlavaMiniSettings, shape: ModelShape, text_tokens: int, words: int) -> Planned:
    sizes, compressed = settings.sizes(shape), settings.side**2
    fusion = settings.depth * layer_macs(sizes.patches + compressed + words, shape.decoder, "swiglu")
    return plan_in_front(shape, text_tokens, compressed, **{"prefusion": fusion, PROJECTOR: settings.macs(sizes)})


SPEC = MethodSpec(
    settings=LlavaMiniSettings,
    label="LLaVA-Mini",
    plan=plan,
    trains=trains,
    parts="dpn_model.methods.llava_mini.parts:build",
    search={"depth": Dimension("depth", choices=(2, 4)), "side": Dimension("side", choices=(1, 2, 4))},
    needs_training="stage 1+2",
    budget=Dimension("side", choices=(1, 2, 4, 6, 8, 12)),
)
