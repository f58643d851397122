"""Settings, plan and search space of VisionZip (arXiv 2412.04467; spec peer-methods 5.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings, Positions, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front, projector_macs


@dataclass(frozen=True)
class VisionZipSettings(MethodSettings):
    """Settings of VisionZip. The variant with a tuned projector is a training with lr 0 and a projector_lr.

    Attributes:
        keep: dominant and contextual tokens together, as a share of a picture's patches or a number.
        contextual: share of these that are means over what is not dominant; the authors' 10 of 64, 20 of 128 and 30 of
            192 alike.
        class_token: whether the tower's class token is one of the dominant ones, as in the authors' code, although no
            LLaVA has been trained with it.
        positions: the authors renumber; kept ones put the class token where the first patch was, and a mean where its
            target was.
    """

    name: ClassVar[str] = "visionzip"
    keep: float = keep_setting(0.25)
    contextual: float = setting(0.15625, "share of the kept tokens that are means of the others", ge=0, lt=1)
    class_token: bool = setting(True, "the tower's class token enters the decoder")
    positions: Positions = setting("contiguous", "rotary positions of what is kept: renumbered, or kept")

    def counts(self, patches: int) -> tuple[int, int]:
        """(dominant, the class token included; contextual) tokens of a picture of `patches`."""
        tokens = kept_count(self.keep, patches)
        contextual = min(round(self.contextual * tokens), tokens - 1)
        return tokens - contextual, contextual

    def macs(self, patches: int, head_width: int, width: int) -> int:
        """Multiply-accumulates on one picture: cosines between targets and others, and the sums of what is merged."""
        dominant, contextual = self.counts(patches)
        others = patches + self.class_token - dominant - contextual
        return contextual * others * (head_width + width)


def targets(remaining: int, contextual: int) -> range:
    """Which of the remaining tokens the others are merged into: evenly spaced, from the first on."""
    step = max(1, remaining // max(1, contextual))
    return range(0, step * contextual, step)


def plan(settings: VisionZipSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on."""
    patches = math.prod(image_rows(shape))
    tokens = sum(settings.counts(patches))
    macs, tower = projector_macs(shape, tokens), shape.tower
    if tower is not None and tower.num_heads:
        macs["tower"] = (patches + tower.class_tokens) * tower.hidden_size
        macs["selector"] = settings.macs(patches, tower.hidden_size // tower.num_heads, tower.hidden_size)
    return plan_in_front(shape, text_tokens, tokens, **macs)


SPEC = MethodSpec(
    settings=VisionZipSettings,
    label="VisionZip",
    plan=plan,
    parts="dpn_model.methods.visionzip.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
