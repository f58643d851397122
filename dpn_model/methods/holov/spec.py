"""Settings, plan and search space of HoloV (arXiv 2510.02912; spec frontier A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.selector_costs import cls_attention_macs
from dpn_model.methods.settings import MethodSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front


@dataclass(frozen=True)
class HoloVSettings(MethodSettings):
    """Settings of HoloV.

    Attributes:
        keep: tokens of a picture that are kept, in all its stretches together.
        chunks: stretches of consecutive tokens; the authors take 16, bands of one and a half rows of 24.
        diversity: weight of a token's variance of likeness beside its attention (0.09 in the authors' code).
    """

    name: ClassVar[str] = "holov"
    keep: float = keep_setting(round(128 / 576, 4))
    chunks: int = setting(16, "stretches of consecutive tokens", ge=1)
    diversity: float = setting(0.09, "weight of the variance of likeness in a stretch's score", ge=0)

    def macs(self, tokens: int, width: int) -> int:
        """Multiply-accumulates of the likeness within stretches; all are padded to the longest."""
        chunks = min(self.chunks, tokens)
        return chunks * (-(-tokens // chunks)) ** 2 * width


def plan(settings: HoloVSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on."""
    tokens = math.prod(image_rows(shape))
    macs = {"selector": settings.macs(tokens, shape.decoder.hidden_size), "tower": cls_attention_macs(shape)}
    return plan_in_front(shape, text_tokens, kept_count(settings.keep, tokens), **macs)


SPEC = MethodSpec(
    settings=HoloVSettings,
    label="HoloV",
    plan=plan,
    parts="dpn_model.methods.holov.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
