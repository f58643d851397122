"""What an alias names: the best point by its own rule, among those that the rule admits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpn_model.methods.registry import DENSE
from dpn_platform.config.aliases import CHAMPION
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import flops_ratio, front_points, is_measured, knee
from dpn_platform.evaluation.points import Convention, Point

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rule:
    """Of all points at most this dear, the one of the highest accuracy minus `price` times its FLOPs ratio.

    Attributes:
        told: the same in words.
        missing: why there can be no such point now; None where there can.
    """

    convention: Convention
    told: str
    max_cost: float = math.inf
    price: float = 0.0
    missing: str | None = None

    def value(self, point: Point) -> float:
        """What the rule looks at; a fraction."""
        return point.accuracy - self.price * flops_ratio(point, self.convention)

    def admits(self, point: Point) -> bool:
        """Whether the alias may name the point."""
        cost = flops_ratio(point, self.convention)
        return is_measured(point, self.convention) and cost <= self.max_cost + _ROUNDING


def rule_of(alias: str, points: Sequence[Point], convention: Convention) -> Rule:
    """The rule of an alias that is one (`config.aliases`), as the study stands.

    The knee's price is the slope of the line between the front's ends: what an added FLOP is worth on average there.

    Raises:
        DpnError: a champion without a dense control.
    """
    kind, _, number = alias.partition("-")
    if kind == "budget":
        return Rule(convention, f"the most accurate point at a FLOPs ratio of at most {number}", float(number))
    if kind == "objective":
        told = f"the point of the highest accuracy minus {number} times its FLOPs ratio"
        return Rule(convention, told, price=float(number))
    if kind == CHAMPION:
        dense = [point for point in points if point.method == DENSE and is_measured(point, convention)]
        if not dense:
            raise DpnError(
                "alias 'champion' is the most accurate point that is no dearer than dense, and the study has no "
                "measured dense control; add it to the study's controls, or use budget-X, knee or objective-P"
            )
        cost = min(flops_ratio(point, convention) for point in dense)
        return Rule(convention, f"the most accurate point no dearer than {dense[0].name}", cost)
    told = "the knee of the front"
    if knee(points, convention) is None:
        return Rule(convention, told, missing="the front has no knee: it needs a point above the line between its ends")
    first, *_, last = front_points(points, convention)
    width = flops_ratio(last, convention) - flops_ratio(first, convention)
    return Rule(convention, told, price=(last.accuracy - first.accuracy) / width)
