"""A study in a few figures, for lists and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpn_platform.evaluation.pareto import flops_ratio, front_points, hypervolume
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.reports.study.controls import cheapest_as_good_as_dense


def brief_of(points: Sequence[Point], convention: Convention) -> dict[str, Any]:
    """`{points, on_front, best, cheapest_as_good_as_dense, hypervolume}`; seeds of one setting are one point."""
    together = seeds_together(points)
    front = front_points(together, convention)
    return {
        "points": len(together),
        "on_front": len(front),
        "best": brief_point(front[-1] if front else None, convention),
        "cheapest_as_good_as_dense": brief_point(cheapest_as_good_as_dense(together, convention), convention),
        "hypervolume": hypervolume(together, convention=convention) if front else None,
    }


def brief_point(point: Point | None, convention: Convention) -> dict[str, Any] | None:
    """`{name, accuracy, ci, flops_ratio}` of a measured point."""
    if point is None:
        return None
    ratio = flops_ratio(point, convention)
    return {"name": point.name, "accuracy": point.accuracy, "ci": list(point.accuracy_ci), "flops_ratio": ratio}
