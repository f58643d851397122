"""Where the points of a study stand to each other, and what a point's run in the tracker says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpn_platform.evaluation.pareto import flops_ratio, is_measured, pareto_front
from dpn_platform.evaluation.points import Convention, Point, by_seed_group, without_seed
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.tracking.records import View
from dpn_platform.tracking.tracker import COLOUR_TAG, CURRENT_TAG, VERSION_TAG

ACCURACY, FLOPS_RATIO = "point/accuracy", "point/flops_ratio"
STUDY_TAG, RANK_TAG, METHOD_TAG = "dpn.study", "dpn.rank", "dpn.method"
_ACCURACY_TAG, _FLOPS_TAG = "dpn.point.accuracy", "dpn.point.flops_ratio"
#: of a point's run wherever runs are drawn: on the front, and behind it
_ON_FRONT, _BEHIND = "#0f766e", "#b6c2d1"


def ranks(points: Sequence[Point], convention: Convention) -> dict[str, int]:
    """Name -> rank of every measured point: 1 on the front, 2 on the front of the rest, and so on.

    Seeds of one setting stand where their mean does.
    """
    members = by_seed_group(points)
    left = [point for point in seeds_together(points) if is_measured(point, convention)]
    found: dict[str, int] = {}
    rank = 0
    while left:
        rank += 1
        flags = pareto_front(left, convention)
        front = [point.name for point, flag in zip(left, flags, strict=True) if flag]
        found |= {one.name: rank for name in front for one in members[without_seed(name)]}
        left = [point for point, flag in zip(left, flags, strict=True) if not flag]
    return found


def standing_tags(rank: int | None) -> dict[str, str]:
    """What changes when other points come: the rank, whether it is that of the front, and the colour of it."""
    return {
        CURRENT_TAG: str(rank == 1).lower(),
        RANK_TAG: "" if rank is None else str(rank),
        COLOUR_TAG: _ON_FRONT if rank == 1 else _BEHIND,
    }


def point_tags(point: Point, convention: Convention) -> dict[str, str]:
    """What a point's run says of it in words."""
    low, high = point.accuracy_ci
    return {
        VERSION_TAG: point.name,
        METHOD_TAG: point.method,
        _ACCURACY_TAG: f"{point.accuracy:.1%} ({low:.1%} to {high:.1%}, n = {point.n})",
        _FLOPS_TAG: f"{flops_ratio(point, convention):.3f} ({convention})",
    }


def point_metrics(point: Point, convention: Convention) -> dict[str, float]:
    """A point's place in the plane, under names that do not depend on benchmarks: accuracies are fractions."""
    low, high = point.accuracy_ci
    values = {
        ACCURACY: point.accuracy,
        "point/accuracy_low": low,
        "point/accuracy_high": high,
        FLOPS_RATIO: flops_ratio(point, convention),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def view_of_study(study: str, convention: Convention) -> View:
    """Accuracy against cost of a study's trials, with a table that is sorted by cost."""
    return View(
        key=study,
        title=f"{study}: accuracy against FLOPs ({convention})",
        tag=(STUDY_TAG, study),
        metrics=(FLOPS_RATIO, ACCURACY, "cost/visual_tokens_mean"),
        tags=(RANK_TAG, METHOD_TAG),
        across=FLOPS_RATIO,
        up=ACCURACY,
    )


def view_of_studies() -> View:
    """The studies of an experiment beside each other, the largest hypervolume first."""
    figures = ("hypervolume", "size", "flops_spread", "best_accuracy", "accuracy_at_0.40", "accuracy_at_0.60")
    return View(
        key="studies",
        title="all studies",
        tag=("dpn.kind", "study"),
        metrics=tuple(f"front/{name}" for name in figures),
        is_ascending=False,
    )
