"""Settings, plan and search space of TokenPacker (arXiv 2407.02392; spec peer-methods 4.7)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes, heads_of, linear_macs, plan_projected
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec

#: hidden states that the authors read, as shares of the tower's depth: 12, 16, 22 and 23 of CLIP-L's 24
DEPTHS = (12 / 24, 16 / 24, 22 / 24, 23 / 24)
HEAD_SIZE = 128


@dataclass(frozen=True)
class TokenPackerSettings(ProjectorSettings):
    """Settings of TokenPacker.

    Attributes:
        scale: patches each way that one query sees; it must divide the grid.
        levels: hidden states of the tower whose patches are keys and values; queries begin at the last of them.
            Default: the authors' 12, 16, 22, 23 of 24, at other depths at the same shares of it, each once.
        width: of the attention; default that of the tower.
        heads: default one for every 128 of the width.
        query_residual: the query is added to what it found; the authors' code leaves it out.
    """

    name: ClassVar[str] = "tokenpacker"
    scale: int = setting(2, "patches each way that one query sees", ge=1)
    levels: tuple[int, ...] | None = setting(None, "hidden states of the tower; default 12, 16, 22, 23 of 24", ge=0)
    width: int | None = setting(None, "of the attention; default: the tower's", ge=1)
    heads: int | None = setting(None, "default: one for every 128 of the width", ge=1)
    query_residual: bool = setting(False, "the query is added to what it found")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels == ():
            raise ValueError("levels is empty; allowed: at least one hidden state of the tower")

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """A token per block."""
        sizes.levels(self.levels, DEPTHS)
        heads_of(self.heads, self.width_of(sizes), HEAD_SIZE)
        return sizes.divided("scale", (self.scale, self.scale))

    def width_of(self, sizes: Sizes) -> int:
        """Of the attention."""
        return self.width or sizes.vision_size

    def macs(self, sizes: Sizes) -> int:
        """Queries; keys and values by an MLP each; attention of one query to its block; the MLP behind it."""
        tokens, width, cells = math.prod(self.grid(sizes)), self.width_of(sizes), self.scale**2
        queries = linear_macs(tokens, sizes.vision_size, width)
        twins = 2 * linear_macs(sizes.patches, len(sizes.levels(self.levels, DEPTHS)) * sizes.vision_size, width, width)
        attention = 2 * (tokens + sizes.patches) * width**2 + 2 * tokens * cells * width
        return queries + twins + attention + linear_macs(tokens, width, sizes.hidden_size, sizes.hidden_size)


SPEC = MethodSpec(
    settings=TokenPackerSettings,
    label="TokenPacker",
    plan=plan_projected,
    parts="dpn_model.methods.tokenpacker.projector:build",
    search={"scale": Dimension("scale", choices=(2, 4))},
    needs_training="stage 1+2",
    budget=Dimension("scale", choices=(12, 8, 6, 4, 3, 2, 1)),
)
