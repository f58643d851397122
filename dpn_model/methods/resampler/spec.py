"""Settings, plan and search space of resamplers (Qwen-VL, arXiv 2308.12966; Honeybee, arXiv 2312.06742; spec 4.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.methods.projecting.settings import (
    ProjectorSettings,
    Sizes,
    attention_macs,
    heads_of,
    linear_macs,
    plan_projected,
)
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec

#: width of a head where none is set
HEAD_SIZES = {"qwen": 128, "honeybee": 64}
#: Honeybee's FFN over its width
FFN_FACTOR = 4


@dataclass(frozen=True)
class ResamplerSettings(ProjectorSettings):
    """Settings of a resampler.

    Attributes:
        variant: "qwen" is one layer of cross-attention, "honeybee" several with an FFN, in the manner of a Q-Former.
        queries: tokens of a picture, a square number; default a quarter of the patches, the authors' 144 of 576.
        width: of the attention; default the decoder's (qwen) or the tower's (honeybee).
        heads: default one for every 128 (qwen) or 64 (honeybee) of the width.
        layers: of honeybee.
        post_matrix: qwen ends with a free matrix.
    """

    name: ClassVar[str] = "resampler"
    variant: Literal["qwen", "honeybee"] = setting("qwen", "one layer of cross-attention, or several with an FFN")
    queries: int | None = setting(None, "tokens of a picture, a square number; default: a quarter of the patches", ge=1)
    width: int | None = setting(None, "of the attention; default: the decoder's (qwen), the tower's (honeybee)", ge=1)
    heads: int | None = setting(None, "default: one for every 128 (qwen) or 64 (honeybee) of the width", ge=1)
    layers: int = setting(6, "of honeybee", ge=1)
    post_matrix: bool = setting(True, "qwen ends with a free matrix")

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """A token per query."""
        self.heads_of(sizes)
        width = self.width_of(sizes)
        if self.variant == "qwen" and width % 4:
            raise ValueError(f"width = {width}; allowed with variant = qwen: multiples of 4, for its positions")
        if self.variant == "qwen" and not self.post_matrix and width != sizes.hidden_size:
            raise ValueError(f"post_matrix = False with width = {width}; allowed: the decoder's {sizes.hidden_size}")
        return sizes.square("queries", self.queries)

    def width_of(self, sizes: Sizes) -> int:
        """Of the attention."""
        return self.width or (sizes.hidden_size if self.variant == "qwen" else sizes.vision_size)

    def heads_of(self, sizes: Sizes) -> int:
        """Of the attention."""
        return heads_of(self.heads, self.width_of(sizes), HEAD_SIZES[self.variant])

    def macs(self, sizes: Sizes) -> int:
        """Patches to the attention's width, attention, and the way to the decoder's width."""
        queries, width = math.prod(self.grid(sizes)), self.width_of(sizes)
        entered = linear_macs(sizes.patches, sizes.vision_size, width)
        left = linear_macs(queries, width, sizes.hidden_size)
        if self.variant == "qwen":
            return entered + attention_macs(queries, sizes.patches, width) + (left if self.post_matrix else 0)
        attention = attention_macs(queries, queries + sizes.patches, width)
        return entered + self.layers * (attention + queries * 3 * FFN_FACTOR * width**2) + left


SPEC = MethodSpec(
    settings=ResamplerSettings,
    label="Resampler",
    plan=plan_projected,
    parts="dpn_model.methods.resampler.projector:build",
    search={"queries": Dimension("queries", choices=(36, 64, 144))},
    needs_training="stage 1+2",
    budget=Dimension("queries", choices=(1, 4, 9, 16, 36, 64, 144, 256, 576)),
)
