"""Which differences are real: each point against the dense control, overall and per question family.

The interval of a difference is Newcombe's (1998, method 10): the two scores' own intervals are combined as if the runs
had answered different questions. All points of a study answer the same ones, which makes this interval too wide rather
than too narrow: a difference called resolved is resolved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dpn_platform.evaluation.pareto import flops_ratio, is_measured
from dpn_platform.evaluation.points import Convention, FamilyScore, Point
from dpn_platform.reports.look.methods import is_dense, is_fixed
from dpn_platform.reports.study.difference import Difference, difference


class FamilyLoss(NamedTuple):
    """What one family loses under a compressed point: dense minus that point."""

    family: str
    n: int
    dense: float
    compressed: float
    loss: Difference


def dense_control(points: Sequence[Point]) -> Point | None:
    """The uncompressed control of the study; without a marked control, the first dense point."""
    dense = [point for point in points if is_dense(point.method) and math.isfinite(point.accuracy)]
    return next((point for point in dense if point.is_control), dense[0] if dense else None)


def against_dense(points: Sequence[Point]) -> dict[str, Difference]:
    """Each other point's difference to the dense control; empty without one."""
    dense = dense_control(points)
    if dense is None:
        return {}
    return {
        point.name: difference(point.accuracy, point.accuracy_ci, dense.accuracy, dense.accuracy_ci)
        for point in points
        if point is not dense and math.isfinite(point.accuracy)
    }


def strongest_static(points: Sequence[Point]) -> Point | None:
    """The control of a fixed reduction that compresses most: it shows which families need fine detail."""
    static = [point for point in points if is_fixed(point.method) and is_measured(point)]
    return min(static, key=lambda point: (flops_ratio(point), point.name), default=None)


def family_losses(dense: Point, compressed: Point) -> list[FamilyLoss]:
    """What each family loses from `dense` to `compressed`, largest loss first."""
    losses = []
    for family, score in compressed.per_family.items():
        base = dense.per_family.get(family)
        if base is None:
            continue
        loss = difference(base.accuracy, base.ci, score.accuracy, score.ci)
        losses.append(FamilyLoss(family, score.n, base.accuracy, score.accuracy, loss))
    return sorted(losses, key=lambda item: (-item.loss.value, item.family))


def families_of(points: Sequence[Point]) -> list[str]:
    """All families of the study; those that lose most under the strongest static control first."""
    names = sorted({family for point in points for family in point.per_family})
    dense, static = dense_control(points), strongest_static(points)
    if dense is None or static is None:
        return names
    ordered = [item.family for item in family_losses(dense, static)]
    return ordered + [name for name in names if name not in ordered]


def is_above_guessing(score: FamilyScore) -> bool | None:
    """Whether the interval lies above the majority-class rate; None when that rate was not recorded."""
    return None if score.majority_rate is None else score.ci[0] > score.majority_rate


def cheapest_as_good_as_dense(points: Sequence[Point], convention: Convention = "swiglu") -> Point | None:
    """The cheapest compressed point that is not resolved to be worse than the dense control."""
    differences = against_dense(points)
    equals = [
        point
        for point in points
        if point.name in differences and differences[point.name].high >= 0 and is_measured(point, convention)
    ]
    return min(equals, key=lambda point: (flops_ratio(point, convention), -point.accuracy, point.name), default=None)
