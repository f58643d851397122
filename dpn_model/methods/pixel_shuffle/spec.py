"""Settings, plan and search space of InternVL's pixel-shuffle projector (arXiv 2404.16821; spec peer-methods 4.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes, linear_macs, plan_projected
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec


@dataclass(frozen=True)
class PixelShuffleSettings(ProjectorSettings):
    """Settings of the pixel-shuffle projector.

    Attributes:
        factor: patches each way that become one token; it must divide the grid.
        order: "v1" leaves out InternVL's last transpose, so that tokens come column by column.
    """

    name: ClassVar[str] = "pixel_shuffle"
    factor: int = setting(2, "patches each way that become one token", ge=1)
    order: Literal["v2", "v1"] = setting("v2", "tokens row by row, or column by column as InternVL's first version")

    def grid(self, sizes: Sizes) -> tuple[int, int]:
        """A token per block."""
        height, width = sizes.divided("factor", (self.factor, self.factor))
        return (height, width) if self.order == "v2" else (width, height)

    def macs(self, sizes: Sizes) -> int:
        """Two matrices per token."""
        widths = (self.factor**2 * sizes.vision_size, sizes.hidden_size, sizes.hidden_size)
        return linear_macs(math.prod(self.grid(sizes)), *widths)


SPEC = MethodSpec(
    settings=PixelShuffleSettings,
    label="Pixel-Shuffle",
    plan=plan_projected,
    parts="dpn_model.methods.pixel_shuffle.projector:build",
    search={"factor": Dimension("factor", choices=(2, 4))},
    needs_training="stage 1+2",
    budget=Dimension("factor", choices=(12, 8, 6, 4, 3, 2, 1)),
)
