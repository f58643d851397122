"""Point: one trained and evaluated model as it stands in a study, with its accuracy, its cost and how it routed.

Light on purpose (pydantic only): sweeps write points, reports read them, and both may be asked for on a machine that
has no torch. Accuracies are fractions in [0, 1] everywhere; only pictures and tables speak of percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

POINT_ARTIFACT = "point.json"


class FamilyScore(BaseModel):
    """One question family: how many questions, share answered right, its interval, and what guessing would score."""

    model_config = ConfigDict(frozen=True, extra="allow")

    n: int = Field(0, ge=0)
    accuracy: float
    ci: tuple[float, float]
    majority_rate: float | None = Field(None, description="score of always giving the family's commonest answer")


class Point(BaseModel):
    """One point of the accuracy/FLOPs plane.

    A value that could not be measured is NaN in Python and `null` in JSON; such a point is kept in the tables and
    left out of the front.

    Attributes:
        accuracy: fraction right on the held-out split.
        accuracy_ci: its 95% interval over questions (lower, upper).
        per_family: family name -> FamilyScore.
        flops_ratio_eq8: FLOPs of the LLM relative to no compression, eq. 8 of the paper (visual tokens only).
        flops_ratio_swiglu: the same with three-matrix MLPs and text tokens. Means over samples of what really ran.
        visual_tokens_mean: visual tokens per layer and sample, averaged.
        is_control: a control of the study (dense, static pooling, random dropping), not a proposal of the search.
        routes: family -> route ("2x2,1x1,1x2") -> number of samples.
        n: questions evaluated.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    method: str
    params: dict[str, Any] = {}
    accuracy: float
    accuracy_ci: tuple[float, float]
    per_family: dict[str, FamilyScore] = {}
    flops_ratio_eq8: float
    flops_ratio_swiglu: float
    visual_tokens_mean: float
    is_control: bool = False
    routes: dict[str, dict[str, int]] = {}
    on_front: bool = False
    n: int = Field(0, ge=0)
    run_id: str | None = None
    checkpoint_uri: str | None = None
    predictions_uri: str | None = None

    @field_validator("accuracy", "flops_ratio_eq8", "flops_ratio_swiglu", "visual_tokens_mean", mode="before")
    @classmethod
    def _null_is_nan(cls, value: object) -> object:
        return math.nan if value is None else value

    @field_validator("accuracy_ci", mode="before")
    @classmethod
    def _null_bounds_are_nan(cls, value: object) -> object:
        if value is None:
            return (math.nan, math.nan)
        return (
            tuple(math.nan if bound is None else bound for bound in value) if isinstance(value, list | tuple) else value
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps(allow_nan=False)`: what was not measured becomes None."""
        plain = _without_nan(self.model_dump(mode="python"))
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Point:
        """The point that `to_json` wrote.

        Raises:
            pydantic.ValidationError: a field is missing or has the wrong type.
        """
        return cls.model_validate(dict(document))


def _without_nan(value: Any) -> Any:
    """`value` with every NaN or infinity replaced by None, tuples by lists, so that strict JSON can hold it."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
