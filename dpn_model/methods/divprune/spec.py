"""Settings, plan and search space of DivPrune (arXiv 2503.02175; spec peer-methods 5.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings, Positions, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front


@dataclass(frozen=True)
class DivPruneSettings(MethodSettings):
    """Settings of DivPrune.

    Attributes:
        keep: the paper's ratio, as a share or a number.
        positions: the authors renumber.
    """

    name: ClassVar[str] = "divprune"
    keep: float = keep_setting(0.25)
    positions: Positions = setting("contiguous", "rotary positions of what is kept: renumbered, or kept")


def plan(settings: DivPruneSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on, and the cosines between all tokens."""
    tokens = math.prod(image_rows(shape))
    selector = tokens**2 * shape.decoder.hidden_size
    return plan_in_front(shape, text_tokens, kept_count(settings.keep, tokens), selector=selector)


SPEC = MethodSpec(
    settings=DivPruneSettings,
    label="DivPrune",
    plan=plan,
    parts="dpn_model.methods.divprune.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    budget=Dimension("keep", 0.01, 1.0),
)
