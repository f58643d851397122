"""Settings, plan and search space of LDP-v2 (MobileVLM V2, arXiv 2402.03766; spec peer-methods 4.6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes, linear_macs, plan_projected
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec

KERNEL = 3


@dataclass(frozen=True)
class LdpV2Settings(ProjectorSettings):
    """Settings of LDP-v2.

    Attributes:
        side: of the grid after; default half of the base's, the authors' 12 of 24.
    """

    name: ClassVar[str] = "ldpv2"
    side: int | None = setting(None, "side of the grid of tokens; default: half of the base's", ge=1)

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """What adaptive pooling leaves."""
        most = min(sizes.height, sizes.width)
        if self.side is not None and self.side > most:
            raise ValueError(f"side = {self.side}; allowed: 1 to {most}, the side of this base's grid")
        return sizes.square("side", None if self.side is None else self.side**2)

    def macs(self, sizes: Sizes) -> int:
        """Two matrices per patch, a depthwise convolution per token."""
        mlp = linear_macs(sizes.patches, sizes.vision_size, sizes.hidden_size, sizes.hidden_size)
        return mlp + math.prod(self.grid(sizes)) * KERNEL**2 * sizes.hidden_size


SPEC = MethodSpec(
    settings=LdpV2Settings,
    label="LDP-v2",
    plan=plan_projected,
    parts="dpn_model.methods.ldpv2.projector:build",
    search={"side": Dimension("side", choices=(6, 8, 12))},
    needs_training="stage 1+2",
    budget=Dimension("side", choices=(1, 2, 3, 4, 6, 8, 12, 16, 24)),
)
