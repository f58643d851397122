"""Settings, plan and search space of average pooling around the base's projector (spec peer-methods 4.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.cost.ledger import PROJECTOR
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.settings import MethodSettings, parse_kernel, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front


@dataclass(frozen=True)
class AvgPoolSettings(MethodSettings):
    """Settings of average pooling.

    Attributes:
        kernel: cells that become one, height x width; they must divide the grid.
        where: in front of the projector, which then runs on what is left, or behind it.
    """

    name: ClassVar[str] = "avgpool"
    kernel: str = setting("2x2", "cells that become one, height x width", check=parse_kernel)
    where: Literal["pre", "post"] = setting("pre", "in front of the projector, or behind it")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tokens of a picture of height x width patches.

        Raises:
            ValueError: the kernel does not divide them.
        """
        return Sizes(0, 0, height, width).divided("kernel", parse_kernel(self.kernel))


def check(settings: AvgPoolSettings, shape: ModelShape | None) -> None:
    """Raise ValueError where the settings do not fit a base."""
    if settings.where == "pre":
        Sizes.of(shape)
    if shape is not None and shape.image_grid is not None:
        settings.grid(*shape.image_grid)


def plan(settings: AvgPoolSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """All samples alike, from the first layer on; in front of the projector, it too runs on what is left alone."""
    check(settings, shape)
    before = image_rows(shape)
    tokens = math.prod(settings.grid(*before))
    macs = {}
    if settings.where == "pre" and shape.projector_macs is not None:
        macs[PROJECTOR] = shape.projector_macs // math.prod(before) * tokens
    return plan_in_front(shape, text_tokens, tokens, **macs)


SPEC = MethodSpec(
    settings=AvgPoolSettings,
    label="Average pooling",
    plan=plan,
    parts="dpn_model.methods.avgpool.selector:build",
    search={"kernel": Dimension("kernel", choices=("1x2", "2x2", "4x4"))},
    needs_training="stage 2",
    control={},
    budget=Dimension("kernel", choices=("12x12", "8x8", "6x6", "4x4", "3x3", "2x4", "2x2", "1x2", "1x1")),
)
