"""Settings and plan of the uniform grid (spec peer-methods 6.4 asks for controls of every method)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import SitedSettings, keep_setting, kept_count, setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned, plan_of_stages


@dataclass(frozen=True)
class UniformGridSettings(SitedSettings):
    """Settings of the uniform grid.

    Attributes:
        sites: in front of the decoder, unless it is the control of a method that drops later.
        keep: exactly so many tokens are kept of every picture, at every site.
    """

    name: ClassVar[str] = "uniform_grid"
    sites: tuple[int, ...] | None = setting((0,), "after these layers; 0: in front of the decoder", ge=0)
    keep: float = keep_setting(0.25)


def plan(settings: UniformGridSettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The same count for every sample."""
    return plan_of_stages(settings, shape, text_tokens, lambda tokens, _: kept_count(settings.keep, tokens))


SPEC = MethodSpec(
    settings=UniformGridSettings,
    label="uniform grid",
    plan=plan,
    parts="dpn_model.methods.uniform_grid.reducer:build",
    search={"keep": Dimension("keep", 0.05, 0.9)},
    shorthand=lambda name: {} if name == "uniform_grid" else None,
    budget=Dimension("keep", 0.01, 1.0),
    control={},
)
