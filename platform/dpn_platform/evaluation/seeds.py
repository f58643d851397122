"""Points that differ in their seed alone, drawn and told as one: their mean, with the spread of the seeds beside it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from dpn_platform.evaluation.points import FamilyScore, Point, by_seed_group, without_seed


def seeds_together(points: Sequence[Point]) -> tuple[Point, ...]:
    """Every group of seeds as one point; a point without others stays as it is.

    Accuracy, costs and the bounds of intervals are means over the seeds: they answer the same questions, so the mean of
    their intervals is rather too wide than too narrow for the mean. Outcomes stay those of the first seed.
    """
    return tuple(
        _mean(name, members) if len(members) > 1 else members[0] for name, members in by_seed_group(points).items()
    )


def _mean(name: str, members: Sequence[Point]) -> Point:
    first = members[0]
    families = {
        family: _mean_score([one.per_family[family] for one in members])
        for family in first.per_family
        if all(family in one.per_family for one in members)
    }
    changes: dict[str, Any] = {
        "name": name,
        "params": {key: value for key, value in first.params.items() if key != "seed"},
        "accuracy": fmean(one.accuracy for one in members),
        "accuracy_ci": _mean_interval([one.accuracy_ci for one in members]),
        "per_family": families,
        "flops_ratio": {key: fmean(one.flops_ratio[key] for one in members) for key in first.flops_ratio},
        "visual_tokens_mean": fmean(one.visual_tokens_mean for one in members),
        "on": None if first.on is None else without_seed(first.on),
        "is_feasible": all(one.is_feasible for one in members),
        "seeds": {one.name: one.accuracy for one in members},
        "extension": min(one.extension for one in members),
    }
    return first.model_copy(update=changes)


def _mean_score(scores: Sequence[FamilyScore]) -> FamilyScore:
    accuracy, ci = fmean(one.accuracy for one in scores), _mean_interval([one.ci for one in scores])
    return scores[0].model_copy(update={"accuracy": accuracy, "ci": ci})


def _mean_interval(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*intervals, strict=True)
    return fmean(lows), fmean(highs)
