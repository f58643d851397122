"""Scores from predictions: exact match, intervals, majority rate, FLOPs ratios, routes. Pure functions over columns."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpn_platform.evaluation.points import FamilyScore

Row = Mapping[str, Any]
_Z_95 = 1.959963984540054


def normalise_answer(text: str) -> str:
    """What counts of an answer: lower case, single spaces, no full stop or quotes around it."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(" .,!\"'")


def is_correct(answer: str, gold: str) -> bool:
    """Whether an answer is the expected one, word for word; an empty answer never is."""
    return normalise_answer(answer) != "" and normalise_answer(answer) == normalise_answer(gold)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion; (0, 1) when nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low, high = centre - half, centre + half
    return 0.0 if successes == 0 else low, 1.0 if successes == n else high


def score(rows: Sequence[Row]) -> FamilyScore:
    """Accuracy, interval and majority rate (the share of the commonest expected answer) of some predictions."""
    n = len(rows)
    right = sum(bool(row["correct"]) for row in rows)
    common = Counter(normalise_answer(row["gold"]) for row in rows).most_common(1)
    return FamilyScore(
        n=n,
        accuracy=right / n if n else math.nan,
        ci=wilson_interval(right, n),
        majority_rate=common[0][1] / n if common else None,
    )


def score_families(rows: Sequence[Row]) -> dict[str, FamilyScore]:
    """The score of every family, by name."""
    return {family: score(members) for family, members in sorted(by_family(rows).items())}


def by_family(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of every family, in order."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    return families


def flops_ratio(rows: Sequence[Row], convention: str) -> float:
    """Mean cost of the samples over their mean cost without reduction (mean of costs, never cost of the mean).

    A text-only sample has no visual tokens: under `eq8` it adds nothing to either mean.
    """
    dense = sum(row[f"{convention}_dense"] for row in rows)
    return sum(row[f"{convention}_macs"] for row in rows) / dense if dense else math.nan


def visual_tokens_mean(rows: Sequence[Row]) -> float:
    """Visual tokens per layer, averaged over the samples that have an image; NaN without any."""
    with_image = [row["visual_tokens_mean"] for row in rows if row["has_image"]]
    return sum(with_image) / len(with_image) if with_image else math.nan


def count_routes(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Family -> route -> samples, the commonest route first; only samples with an image take a route."""
    return {
        family: dict(Counter(row["route"] for row in members if row["has_image"]).most_common())
        for family, members in sorted(by_family(rows).items())
        if any(row["has_image"] and row["route"] for row in members)
    }
