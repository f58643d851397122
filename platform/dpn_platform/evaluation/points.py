"""Point: one trained and evaluated model as it stands in a study, with its accuracy, its cost and how it routed.

Light on purpose (pydantic only): sweeps write points, reports read them, and both may be asked for on a machine that
has no torch. Accuracies are fractions in [0, 1]; only pictures and tables speak of percent. The scores of single
benchmarks keep the unit that papers print and name it (`benchmarks.contract.UNITS`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

#: of the FLOPs on a study's axis: the decoder's prefill, or all that ran up to the first answer token
Convention = Literal["swiglu", "eq8", "executed"]
POINT_ARTIFACT = "point.json"
_OLD_RATIO = "flops_ratio_"


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
        accuracy: of the study's axis (`eval.accuracy`), as a fraction of the best possible; by default the share of
            the held-out questions answered right.
        accuracy_ci: its 95% interval over questions (lower, upper).
        scores: benchmark -> `{label, metric, value, ci, n, unit}`, the headline of every benchmark evaluated.
        per_family: family name -> FamilyScore.
        flops_ratio: convention -> FLOPs of the LLM's prefill relative to no compression, means over all questions of
            what really ran: `eq8` of the paper (visual tokens only), `swiglu` (three-matrix MLPs, text tokens), `true`;
            and `executed`: tower, projector, prefill, head and what the method spends beside them.
        visual_tokens_mean: visual tokens per layer, averaged over the questions with a picture.
        is_control: a control of the study (dense, static pooling, random dropping), not a proposal of the search.
        routes: family -> route ("2x2,1x1,1x2") -> number of samples.
        n: questions evaluated.
        on: name of the trained point whose checkpoint this is, with another method or on one route; None: its own.
        seeds: name -> accuracy of the runs that this is the mean of; empty for a single run.
        is_feasible: it keeps the study's constraints; what does not is on no front.
        extension: number of the extension of the study that brought it; 0: the study began with it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    method: str
    params: dict[str, Any] = {}
    accuracy: float
    accuracy_ci: tuple[float, float]
    per_family: dict[str, FamilyScore] = {}
    flops_ratio: dict[str, float]
    visual_tokens_mean: float
    scores: dict[str, dict[str, Any]] = {}
    is_control: bool = False
    routes: dict[str, dict[str, int]] = {}
    on_front: bool = False
    n: int = Field(0, ge=0)
    run_id: str | None = None
    checkpoint_uri: str | None = None
    outcomes_uri: str | None = None
    on: str | None = None
    seeds: dict[str, float] = {}
    is_feasible: bool = True
    extension: int = 0

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, values: Any) -> Any:
        return with_flops_ratio(values) if isinstance(values, dict) else values

    @field_validator("flops_ratio", mode="before")
    @classmethod
    def _null_ratios_are_nan(cls, ratios: Any) -> Any:
        return {name: math.nan if value is None else value for name, value in ratios.items()}

    @field_validator("accuracy", "visual_tokens_mean", mode="before")
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
        plain = without_nan(self.model_dump(mode="python"))
        assert isinstance(plain, dict)
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Point:
        """The point that `to_json` wrote.

        Raises:
            pydantic.ValidationError: a field is missing or has the wrong type.
        """
        return cls.model_validate(dict(document))


def with_flops_ratio(values: Mapping[str, Any]) -> dict[str, Any]:
    """A document with `flops_ratio` and `outcomes_uri`, whichever version wrote it.

    Documents of earlier versions have a field per convention, `flops_ratio_eq8` and `flops_ratio_swiglu`, and call the
    table of outcomes `predictions_uri`.
    """
    found = dict(values)
    old = {name: found.pop(name) for name in list(found) if name.startswith(_OLD_RATIO)}
    if old and "flops_ratio" not in found:
        found["flops_ratio"] = {name.removeprefix(_OLD_RATIO): value for name, value in old.items()}
    if "predictions_uri" in found:
        found["outcomes_uri"] = found.pop("predictions_uri")
    return found


def without_nan(value: Any) -> Any:
    """`value` with every NaN or infinity replaced by None, tuples by lists, so that strict JSON can hold it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_SEED = re.compile(r"-seed-\d+(?=$|-dial-)")


def without_seed(name: str) -> str:
    """A point's name without its seed."""
    return _SEED.sub("", name)


#: setting of points that are another's checkpoint with its dial turned
DIAL = "dial"


def dial_curves(points: Sequence[Point]) -> list[list[Point]]:
    """For every checkpoint whose dial was turned: its points, the one that nobody steered among them, in any order."""
    turned = [point for point in points if DIAL in point.params]
    return [
        [point for point in points if point.name == name or (point in turned and point.on == name)]
        for name in dict.fromkeys(point.on for point in turned)
    ]


def by_seed_group(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Name without the seed -> its points, in the order of the first."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(without_seed(point.name), []).append(point)
    return groups
