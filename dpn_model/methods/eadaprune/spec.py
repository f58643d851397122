"""Settings and plan of E-AdaPrune (arXiv 2603.05950; spec frontier A2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.selector_costs import plan_before_projector, tower_width
from dpn_model.methods.settings import MethodSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class EAdaPruneSettings(MethodSettings):
    """Settings of E-AdaPrune.

    The paper adds its budget to other pruners; here the class token's attention chooses what is kept. It fits `energy`
    to a mean budget over pictures, which is whoever compares's to do: no cost follows from the setting alone.

    Attributes:
        energy: share of the features' spectral energy that the singular values counted must hold.
        least, most: bounds of the number of tokens, as shares or numbers.
    """

    name: ClassVar[str] = "eadaprune"
    energy: float = setting(0.9, "share of the spectral energy that is held", gt=0, le=1)
    least: float = keep_setting(1 / 36, "fewest tokens kept of a picture: a share, or above 1 a number")
    most: float = keep_setting(1.0, "most tokens kept of a picture: a share, or above 1 a number")

    def bounds(self, tokens: int, width: int) -> tuple[int, int]:
        """Fewest and most tokens kept of a picture; there are no more singular values than columns.

        Raises:
            ValueError: the fewest are more than the most.
        """
        least, most = kept_count(self.least, tokens), kept_count(self.most, tokens)
        if least > most:
            raise ValueError(
                f"least = {self.least:g} and most = {self.most:g} are {least} and {most} of {tokens} tokens"
            )
        return least, max(least, min(most, width)) if width else most


def plan(settings: EAdaPruneSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The fewest and the most tokens of a picture."""
    tokens, width = math.prod(image_rows(shape)), tower_width(shape)
    macs = min(tokens, width) ** 2 * max(tokens, width)
    low, high = (
        plan_before_projector(shape, text_tokens, count, macs).cheapest for count in settings.bounds(tokens, width)
    )
    return Planned(low, high)


SPEC = MethodSpec(
    settings=EAdaPruneSettings,
    label="E-AdaPrune",
    plan=plan,
    parts="dpn_model.methods.eadaprune.selector:build",
    search={"energy": Dimension("energy", 0.5, 0.999)},
    chooses="per sample",
    needs_cls_attention=True,
)
