"""Settings, plan and search space of the random-kernel pyramid (spec base-models A.4 row 30)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.pooling.settings import ExpertSettings, plan_pooling
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned


@dataclass(frozen=True)
class RandomKernelSettings(ExpertSettings):
    """Settings of the random-kernel pyramid.

    Attributes:
        seed: of the draws at inference: another seed, another kernel for every sample. What a run is trained with is
            its own seed.
    """

    name: ClassVar[str] = "random_kernel"
    seed: int = setting(0, "of the kernels drawn at inference", ge=0)


def plan(settings: RandomKernelSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The cheapest and the dearest draw."""
    return plan_pooling(settings, shape, text_tokens, {})


SPEC = MethodSpec(
    settings=RandomKernelSettings,
    label="random kernels",
    plan=plan,
    parts="dpn_model.methods.random_kernel.reducer:build",
    search={"experts": Dimension("experts", choices=(("1x1", "1x2", "2x2"), ("1x1", "2x2")))},
    shorthand=lambda name: {} if name == "random_kernel" else None,
    needs_training="stage 2",
    chooses="per sample",
    is_random=True,
)
