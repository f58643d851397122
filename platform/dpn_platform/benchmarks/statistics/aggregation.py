"""Means of question scores, overall and per group, in percent; and the headline with its interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from dpn_platform.benchmarks.contract import Headline, QuestionScore
from dpn_platform.benchmarks.statistics.bootstrap import interval, resampled_means


def percent(scores: Sequence[float]) -> float:
    """100 times the mean; NaN of nothing."""
    return 100.0 * math.fsum(scores) / len(scores) if scores else math.nan


def accuracy_headline(name: str, scores: Sequence[float], seed: int) -> Headline:
    """The mean in percent with its bootstrap interval."""
    low, high = interval(100.0 * resampled_means(scores, seed))
    return Headline(name, percent(scores), (low, high))


def by_group(questions: Iterable[QuestionScore], groups: Iterable[Hashable]) -> dict[str, dict[str, Any]]:
    """Group -> `{n, accuracy}`, sorted by name; questions without a group (None) are left out."""
    members: dict[str, list[float]] = {}
    for question, group in zip(questions, groups, strict=True):
        if group is not None:
            members.setdefault(str(group), []).append(question.score)
    return {name: group_score(scores) for name, scores in sorted(members.items())}


def group_score(scores: Sequence[float]) -> dict[str, Any]:
    """`{n, accuracy}` of one group."""
    return {"n": len(scores), "accuracy": percent(scores)}
