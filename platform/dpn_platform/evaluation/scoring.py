"""Scores, costs and routes of some rows of the outcome table. Pure functions.

One population per figure: scores and FLOPs ratios are over all rows the model ran for, visual tokens and routes over
those with a picture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dpn_platform.benchmarks.heldout import normalise_answer
from dpn_platform.benchmarks.outcomes import Row
from dpn_platform.benchmarks.statistics.wilson import wilson_interval
from dpn_platform.evaluation.points import FamilyScore

#: convention -> columns it is counted in; a true FLOP count is twice the multiply-accumulates, so its ratio is theirs
CONVENTIONS = {"eq8": "eq8", "swiglu": "swiglu", "true": "swiglu"}


def score(rows: Sequence[Row]) -> FamilyScore:
    """Mean score, Wilson's interval and majority rate (the share of the commonest expected answer) of scored rows."""
    n = len(rows)
    right = sum(row["score"] for row in rows)
    common = Counter(normalise_answer(row["gold"] or "") for row in rows).most_common(1)
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


def flops_ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Convention -> `flops_ratio`, of those that were counted; "executed" is of all that ran, the method's own too."""
    counted = [row for row in rows if row.get("eq8_macs") is not None]
    found = {name: flops_ratio(counted, columns) for name, columns in CONVENTIONS.items()} if counted else {}
    executed = [row for row in counted if row.get("executed_macs") is not None]
    return {**found, "executed": flops_ratio(executed, "executed")} if executed else found


def flops_ratio(rows: Sequence[Row], convention: str) -> float:
    """Mean cost of the samples over their mean cost without reduction (mean of costs, never cost of the mean).

    A text-only sample has no visual tokens: under `eq8` it adds nothing to either mean.
    """
    dense = sum(row[f"{convention}_dense"] for row in rows)
    return sum(row[f"{convention}_macs"] for row in rows) / dense if dense else math.nan


def visual_tokens_mean(rows: Sequence[Row]) -> float:
    """Visual tokens per layer, averaged over the samples that have any; NaN without.

    A picture that is seen by cross-attention alone has none.
    """
    with_image = [row["visual_tokens_mean"] for row in rows if row["has_image"] and row["visual_tokens_mean"]]
    return sum(with_image) / len(with_image) if with_image else math.nan


def count_routes(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Family -> route -> samples, the commonest route first; only samples with an image take a route."""
    return {
        family: dict(Counter(row["route"] for row in members if row["has_image"]).most_common())
        for family, members in sorted(by_family(rows).items())
        if any(row["has_image"] and row["route"] for row in members)
    }
