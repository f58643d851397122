"""Settings and plan of image downsampling, which beats some published methods (spec peer-methods 6.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import Ledger
from dpn_model.methods.settings import MethodSettings, keep_setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned


@dataclass(frozen=True)
class DownsampleSettings(MethodSettings):
    """Settings of downsampling.

    Attributes:
        keep: a picture keeps its shape, so both sides of its grid are scaled by the same factor and rounded: of 24x24
            patches a quarter is 12x12, and a third, or 192, is 14x14 = 196.
    """

    name: ClassVar[str] = "downsample"
    keep: float = keep_setting(0.25)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches that are left of a picture of height x width."""
        share = self.keep if self.keep <= 1 else min(1.0, self.keep / (height * width))
        return max(1, round(height * math.sqrt(share))), max(1, round(width * math.sqrt(share)))


def plan(settings: DownsampleSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same grid for every picture of the tower's own size; tower and projector cost less too."""
    if shape.tower is None or shape.image_grid is None:
        raise ValueError(f"name = {settings.name}: {REASON}")
    native, grid = math.prod(shape.image_grid), settings.grid(*shape.image_grid)
    patches = math.prod(grid)
    sizes = () if grid == shape.image_grid else (patches,)
    ledger = Ledger.of_stages(
        shape.decoder.num_layers, (0,), (native, patches), text_tokens, num_images=1, other_sizes=sizes
    )
    return Planned(ledger, ledger)


REASON = "only LLaVA-1.5's tower takes pictures of other sizes than its own; allowed: bases of kind llava"

SPEC = MethodSpec(
    settings=DownsampleSettings,
    label="downsampling",
    plan=plan,
    parts="dpn_model.methods.downsample.resizer:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    shorthand=lambda name: {} if name == "downsample" else None,
    resizes=True,
    budget=Dimension("keep", choices=tuple(round((side / 24) ** 2, 5) for side in range(2, 25))),
    control={},
)
