"""Settings, plan and search space of random dropping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import SitedSettings, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, plan_of_stages


@dataclass(frozen=True)
class RandomDropSettings(SitedSettings):
    """Settings of random dropping.

    Attributes:
        keep_ratio: share of the visual tokens kept at every site.
        seed: of the subsets drawn at inference: another seed, another draw for every sample. What a run is trained
            with is its own seed.
    """

    name: ClassVar[str] = "random_drop"
    keep_ratio: float = setting(0.5, "share of visual tokens kept at each site", gt=0, le=1)
    seed: int = setting(0, "of the subsets drawn at inference", ge=0)


def kept(tokens: int, keep_ratio: float) -> int:
    """Tokens of one image that are left."""
    return max(1, round(tokens * keep_ratio))


def plan(settings: RandomDropSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample."""
    return plan_of_stages(settings, shape, text_tokens, lambda tokens, _: kept(tokens, settings.keep_ratio))


SPEC = MethodSpec(
    settings=RandomDropSettings,
    label="random dropping",
    plan=plan,
    parts="dpn_model.methods.random_drop.reducer:build",
    search={"keep_ratio": Dimension("keep_ratio", 0.2, 0.9)},
    shorthand=lambda name: {} if name == "random_drop" else None,
    is_random=True,
    budget=Dimension("keep_ratio", 0.01, 1.0),
    control={"sites": [0]},
)
