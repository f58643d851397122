"""Settings and plan of the complexity heuristic (spec frontier B2.9: a control for whatever routes by sample)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.pooling.settings import ExpertSettings, plan_pooling
from dpn_model.methods.settings import setting
from dpn_model.methods.spec import Dimension, MethodSpec, Planned

#: under which what a measure multiplies is billed
TAG = "complexity"


@dataclass(frozen=True)
class ComplexitySettings(ExpertSettings):
    """Settings of the complexity heuristic.

    Attributes:
        experts: from the finest to the coarsest; a picture that reaches all thresholds gets the first.
        measure: of a picture, as the tower is shown it; "gradient": mean square of differences between neighbouring
            pixels; "spectrum": share of the energy around its mean brightness at frequencies above a quarter of
            the highest; "features": singular values that hold nine tenths of the energy of the tower's features,
            as a share of all.
        thresholds: ascending, one fewer than experts. Quantiles of the measure over training pictures make routes of
            known shares; the defaults are the gradient's, and of no picture in particular.
    """

    name: ClassVar[str] = "complexity"
    measure: Literal["gradient", "spectrum", "features"] = setting("gradient", "what makes a picture complex")
    thresholds: tuple[float, ...] = setting((0.02, 0.08), "ascending, one fewer than experts", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.thresholds) != sorted(self.thresholds):
            raise ValueError(f"thresholds = {list(self.thresholds)}; allowed: ascending")
        for experts in self.site_experts or (self.experts,):
            if len(experts) != len(self.thresholds) + 1:
                raise ValueError(
                    f"thresholds = {list(self.thresholds)} tell {len(self.thresholds) + 1} experts apart; experts = "
                    f"{list(experts)}"
                )


def plan(settings: ComplexitySettings, shape: ModelShape, text_tokens: int) -> Planned:
    """The cheapest and the dearest kernels."""
    macs = {}
    if settings.measure == "features" and shape.tower is not None:
        rows, columns = shape.tower.patches, shape.tower.hidden_size
        macs[TAG] = min(rows, columns) ** 2 * max(rows, columns)
    return plan_pooling(settings, shape, text_tokens, macs)


SPEC = MethodSpec(
    settings=ComplexitySettings,
    label="image complexity",
    plan=plan,
    parts="dpn_model.methods.complexity.reducer:build",
    search={"measure": Dimension("measure", choices=("gradient", "spectrum"))},
    shorthand=lambda name: {} if name == "complexity" else None,
    needs_training="stage 2",
    chooses="per sample",
)
