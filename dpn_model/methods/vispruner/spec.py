"""Settings, plan and search space of VisPruner (ICCV 2025; spec frontier A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.selector_costs import plan_before_projector, tower_width
from dpn_model.methods.settings import MethodSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows


@dataclass(frozen=True)
class VisPrunerSettings(MethodSettings):
    """Settings of VisPruner.

    Attributes:
        keep: T; the authors' scripts run 128, 64 and 32 of 576.
        important: ρ, the share of T that is kept by attention. Their README changes it by benchmark; their code says
            0.5 everywhere, and one value everywhere is what can be compared.
        step: how many of the rest are dropped at once, at most.
    """

    name: ClassVar[str] = "vispruner"
    keep: float = keep_setting(round(128 / 576, 4))
    important: float = setting(0.5, "share of what is kept that attention chooses", ge=0, le=1)
    step: int = setting(8, "how many similar tokens are dropped at once", ge=1)

    def counts(self, tokens: int) -> tuple[int, int]:
        """Tokens of a picture that attention keeps, and that are kept for being unlike others."""
        kept = kept_count(self.keep, tokens)
        by_attention = int(kept * self.important)
        return by_attention, kept - by_attention

    def drops(self, tokens: int) -> list[tuple[int, int]]:
        """(tokens that are left, how many of them are dropped) of every round; a round compares halves."""
        by_attention, diverse = self.counts(tokens)
        left, rounds = tokens - by_attention, []
        while left > diverse > 0:
            rounds.append((left, min(self.step, left - diverse, (left + 1) // 2)))
            left -= rounds[-1][1]
        return rounds

    def macs(self, tokens: int, width: int) -> int:
        """Multiply-accumulates of all rounds."""
        return sum((left + 1) // 2 * (left // 2) * width for left, _ in self.drops(tokens))


def plan(settings: VisPrunerSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on."""
    tokens = math.prod(image_rows(shape))
    macs = settings.macs(tokens, tower_width(shape))
    return plan_before_projector(shape, text_tokens, kept_count(settings.keep, tokens), macs)


SPEC = MethodSpec(
    settings=VisPrunerSettings,
    label="VisPruner",
    plan=plan,
    parts="dpn_model.methods.vispruner.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9), "important": Dimension("important", 0.25, 0.75)},
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
