"""Differences with their intervals, and the claims that rest on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

#: the best mixture of controls, or the point's own routes, dealt to its samples at random
Against = Literal["controls", "own routes shuffled"]


class Difference(NamedTuple):
    """`value` is point minus dense in accuracy, with its interval."""

    value: float
    low: float
    high: float

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves out zero: the sign of the difference is known."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, float | bool | list[float]]:
        """`{difference, ci, resolved}`."""
        return {"difference": self.value, "ci": [self.low, self.high], "resolved": self.is_resolved}


class Claim(NamedTuple):
    """What a point gains over a mixture at its own mean cost: of controls, or of its own routes.

    Attributes:
        point: its name, without the seed where several are averaged.
        controls: name -> share of the questions that it answers in the mixture.
        cost: of the point, as a FLOPs ratio in the study's convention.
        change: point minus mixture in accuracy, with a paired interval.
    """

    point: str
    controls: Mapping[str, float]
    cost: float
    change: Difference
    against: Against = "controls"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        about = {"point": self.point, "against": self.against, "controls": dict(self.controls), "cost": self.cost}
        return {**about, **self.change.to_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Claim:
        """Inverse of `to_json`."""
        change = Difference(document["difference"], *document["ci"])
        return cls(document["point"], document["controls"], document["cost"], change, document["against"])


def difference(accuracy: float, ci: tuple[float, float], base: float, base_ci: tuple[float, float]) -> Difference:
    """`accuracy - base` with Newcombe's interval from the two intervals; NaN bounds when one is missing."""
    value = accuracy - base
    low = value - math.hypot(accuracy - ci[0], base_ci[1] - base)
    high = value + math.hypot(ci[1] - accuracy, base - base_ci[0])
    return Difference(value, low, high)
