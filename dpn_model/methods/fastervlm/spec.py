"""Settings, plan and search space of FasterVLM (arXiv 2412.01818; spec peer-methods 5.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings, keep_setting, kept_count
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, image_rows, plan_in_front


@dataclass(frozen=True)
class FasterVlmSettings(MethodSettings):
    """Settings of FasterVLM.

    Attributes:
        keep: T of the paper, as a share or a number.
    """

    name: ClassVar[str] = "fastervlm"
    keep: float = keep_setting(0.5)


def plan(settings: FasterVlmSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample, from the first layer on."""
    return plan_in_front(shape, text_tokens, kept_count(settings.keep, math.prod(image_rows(shape))))


SPEC = MethodSpec(
    settings=FasterVlmSettings,
    label="FasterVLM",
    plan=plan,
    parts="dpn_model.methods.fastervlm.selector:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    needs_cls_attention=True,
    budget=Dimension("keep", 0.01, 1.0),
)
