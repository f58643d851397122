"""Settings, plan and search space of the C-Abstractor (Honeybee, arXiv 2312.06742; spec peer-methods 4.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes, linear_macs, plan_projected
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec

KERNEL = 3


def squeezed(width: int) -> int:
    """Width inside squeeze-and-excite: a quarter."""
    return max(1, round(width / 4))


@dataclass(frozen=True)
class CAbstractorSettings(ProjectorSettings):
    """Settings of the C-Abstractor.

    Attributes:
        depth: bottlenecks in front of the pooling, and as many behind it.
        mlp_depth: matrices behind them.
        queries: tokens of a picture, a square number; default a quarter of the patches, the authors' 144 of 576.
        pos_emb: a learned position is added to every patch.
    """

    name: ClassVar[str] = "c_abstractor"
    depth: int = setting(3, "bottlenecks in front of the pooling, and behind it", ge=1)
    mlp_depth: int = setting(2, "matrices at the end", ge=1)
    queries: int | None = setting(None, "tokens of a picture, a square number; default: a quarter of the patches", ge=1)
    pos_emb: bool = setting(True, "a learned position is added to every patch")

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """What adaptive pooling leaves."""
        return sizes.square("queries", self.queries)

    def macs(self, sizes: Sizes) -> int:
        """Both stages and the MLP; squeeze-and-excite runs once a picture."""
        width, tokens = sizes.vision_size, math.prod(self.grid(sizes))
        per_cell = 2 * width**2 + KERNEL**2 * width
        excited = 2 * width * squeezed(width)
        stages = self.depth * ((sizes.patches + tokens) * per_cell + 2 * excited)
        return stages + linear_macs(tokens, width, *([sizes.hidden_size] * self.mlp_depth))


SPEC = MethodSpec(
    settings=CAbstractorSettings,
    label="C-Abstractor",
    plan=plan_projected,
    parts="dpn_model.methods.c_abstractor.projector:build",
    search={"queries": Dimension("queries", choices=(36, 64, 144))},
    needs_training="stage 1+2",
    budget=Dimension("queries", choices=(1, 4, 9, 16, 36, 64, 144, 256, 576)),
)
