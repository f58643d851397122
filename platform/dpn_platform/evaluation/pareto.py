"""The Pareto front of accuracy (up) against FLOPs ratio (down), and its measures. Pure functions.

Only exact dominance counts here; whether a difference is larger than its uncertainty is `compare.py`'s question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from dpn_platform.evaluation.points import Convention, Point


class Reference(NamedTuple):
    """The corner a hypervolume is measured from: no accuracy, at the cost of the uncompressed model."""

    accuracy: float = 0.0
    flops_ratio: float = 1.0


REFERENCE = Reference()


def flops_ratio(point: Point, convention: Convention = "swiglu") -> float:
    """The point's cost relative to the uncompressed model, in the named convention."""
    return point.flops_ratio.get(convention, math.nan)


def is_measured(point: Point, convention: Convention = "swiglu") -> bool:
    """Whether both coordinates are finite and the study's constraints kept.

    Other points can neither be on a front nor dominate.
    """
    return point.is_feasible and math.isfinite(point.accuracy) and math.isfinite(flops_ratio(point, convention))


def dominates(winner: Point, loser: Point, convention: Convention = "swiglu") -> bool:
    """Whether `winner` is at least as good on both axes and better on one."""
    if not (is_measured(winner, convention) and is_measured(loser, convention)):
        return False
    cheaper, dearer = flops_ratio(winner, convention), flops_ratio(loser, convention)
    no_worse = winner.accuracy >= loser.accuracy and cheaper <= dearer
    return no_worse and (winner.accuracy > loser.accuracy or cheaper < dearer)


def pareto_front(points: Sequence[Point], convention: Convention = "swiglu") -> list[bool]:
    """Which points no other point dominates.

    Points equal on both axes do not dominate each other, so ties on the front are all on it.

    Returns:
        One flag per point, in order.
    """
    flags = [False] * len(points)
    measured = [place for place, point in enumerate(points) if is_measured(point, convention)]
    best = -math.inf  # accuracy of all that is cheaper
    by_cost = sorted(measured, key=lambda place: flops_ratio(points[place], convention))
    for _, group in groupby(by_cost, key=lambda place: flops_ratio(points[place], convention)):
        places = list(group)
        highest = max(points[place].accuracy for place in places)
        for place in places:
            flags[place] = points[place].accuracy == highest > best
        best = max(best, highest)
    return flags


def dominated_by(
    points: Sequence[Point], convention: Convention = "swiglu", at_most: int | None = None
) -> list[list[str]]:
    """For each point, the names of the points that dominate it (empty on the front).

    Args:
        points: of one study.
        convention: of the cost.
        at_most: names of a point, the most accurate first; None: all, in the order of `points`.
    """
    measured = np.array([is_measured(point, convention) for point in points], dtype=bool)
    accuracies = np.where(measured, [point.accuracy for point in points], np.nan)
    costs = np.where(measured, [flops_ratio(point, convention) for point in points], np.nan)
    found = []
    for accuracy, cost in zip(accuracies, costs, strict=True):
        no_worse = (accuracies >= accuracy) & (costs <= cost)
        winners = np.flatnonzero(no_worse & ((accuracies > accuracy) | (costs < cost)))
        if at_most is not None and len(winners) > at_most:
            winners = winners[np.argsort(-accuracies[winners], kind="stable")[:at_most]]
        found.append([points[int(place)].name for place in winners])
    return found


def front_points(points: Sequence[Point], convention: Convention = "swiglu") -> list[Point]:
    """The points of the front, cheapest first."""
    flags = pareto_front(points, convention)
    front = [point for point, on_front in zip(points, flags, strict=True) if on_front]
    return sorted(front, key=lambda point: (flops_ratio(point, convention), point.name))


def best_within(points: Sequence[Point], budget: float, convention: Convention = "swiglu") -> Point | None:
    """The most accurate point at no more than this FLOPs ratio; None where every one is dearer."""
    within = [point for point in front_points(points, convention) if flops_ratio(point, convention) <= budget]
    return within[-1] if within else None


def hypervolume(points: Sequence[Point], reference: Reference = REFERENCE, convention: Convention = "swiglu") -> float:
    """The area of the plane that the points dominate, up to the reference corner.

    A point that is no cheaper than the reference adds nothing. With the default corner and accuracies as fractions
    the value lies in [0, 1]; 1 would be every answer right at no cost.
    """
    corners = [(flops_ratio(point, convention), point.accuracy) for point in front_points(points, convention)]
    return dominated_area(corners, reference)


def dominated_area(corners: Iterable[tuple[float, float]], reference: Reference = REFERENCE) -> float:
    """`hypervolume` of (cost, accuracy) pairs, whichever of them are on the front."""
    area, height = 0.0, reference.accuracy
    for cost, accuracy in sorted(corners):
        width = reference.flops_ratio - cost
        if width > 0 and accuracy > height:
            area += width * (accuracy - height)
            height = accuracy
    return area


def flops_spread(points: Sequence[Point], convention: Convention = "swiglu") -> float:
    """Difference in FLOPs ratio between the dearest and the cheapest point of the front; 0 for fewer than two."""
    front = front_points(points, convention)
    return flops_ratio(front[-1], convention) - flops_ratio(front[0], convention) if front else 0.0


def knee(points: Sequence[Point], convention: Convention = "swiglu") -> Point | None:
    """The point of the front farthest above the line between its two ends; None for fewer than three points.

    Both axes are scaled to the front's own range first, so that neither unit decides.
    """
    front = front_points(points, convention)
    if len(front) < 3:
        return None
    first, last = front[0], front[-1]
    width = flops_ratio(last, convention) - flops_ratio(first, convention)
    height = last.accuracy - first.accuracy
    if width <= 0 or height <= 0:
        return None

    def above_the_line(point: Point) -> float:
        across = (flops_ratio(point, convention) - flops_ratio(first, convention)) / width
        return (point.accuracy - first.accuracy) / height - across

    best = max(front[1:-1], key=above_the_line)
    return best if above_the_line(best) > 0 else None


def upper_hull(points: Sequence[Point], convention: Convention = "swiglu") -> list[tuple[float, float]]:
    """(cost, accuracy) of the corners of what mixtures of two points reach, cheapest first; rising ones alone."""
    corners: list[tuple[float, float]] = []
    for point in front_points(points, convention):
        new = (flops_ratio(point, convention), point.accuracy)
        while len(corners) >= 2 and _is_below(corners[-1], corners[-2], new):
            corners.pop()
        corners.append(new)
    return corners


def _is_below(middle: tuple[float, float], first: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether a corner lies on or below the line between its neighbours."""
    rise = (last[1] - first[1]) * (middle[0] - first[0])
    return (middle[1] - first[1]) * (last[0] - first[0]) <= rise
