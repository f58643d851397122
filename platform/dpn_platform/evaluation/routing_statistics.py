"""What the routers of an evaluated model did: over routes, per site, against question, picture and correctness.

`keep_ratio` of a sample is the mean over layers of its visual tokens over what the vision tower gave. Pure functions
over the rows of `recorded_runs`; what was not recorded is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpn_platform.benchmarks.outcomes import Row, is_right
from dpn_platform.benchmarks.statistics.bootstrap import interval, resample
from dpn_platform.benchmarks.statistics.paired import mcnemar
from dpn_platform.evaluation.scoring import by_family, flops_ratios

QUARTILES = 4
IMAGE_FIGURES = ("edge_density", "image_entropy", "image_pixels")
_DIFFICULTIES = ("easy", "medium", "hard")


def keep_ratio(row: Row) -> float:
    """Visual tokens kept, mean over the layers."""
    return float(row["visual_tokens_mean"]) / float(row["visual_tokens"][0])


def routing_statistics(rows: Sequence[Row], groups: Mapping[str, Sequence[Row]], seed: int = 0) -> dict[str, Any]:
    """The whole account as one JSON document.

    Args:
        rows: samples with an image, of a model with routers (`recorded_runs.require_router`).
        groups: what the routes are counted for: benchmarks or question families, by name.
        seed: of the bootstrap.
    """
    return {
        "n": len(rows),
        "groups": {name: group_statistics(members) for name, members in groups.items()},
        "question_type": {name: _summary(members, seed) for name, members in sorted(by_family(rows).items())},
        "difficulty": _by_difficulty(rows, seed),
        "correctness": _by_correctness(rows, seed),
        "image": {name: found for name in IMAGE_FIGURES if (found := _by_figure(rows, name, seed))},
        "same_image": same_image(rows),
    }


def group_statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Routes (commonest first) and sites of one group, its mean keep ratio and FLOPs ratios."""
    routes = Counter(row["route"] for row in rows)
    ranked = sorted(routes.items(), key=lambda item: (-item[1], item[0]))
    return {
        "n": len(rows),
        "distinct_routes": len(routes),
        "routes": {route: {"n": count, "share": count / len(rows)} for route, count in ranked},
        "sites": _sites(rows),
        "keep_ratio": float(np.mean([keep_ratio(row) for row in rows])),
        "visual_tokens_mean": float(np.mean([row["visual_tokens_mean"] for row in rows])),
        **{f"flops_ratio_{name}": value for name, value in flops_ratios(rows).items() if name != "true"},
    }


def same_image(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Pairs of questions on one picture (`image_pairs`): is the simpler one pooled more? None without such pairs."""
    pairs = image_pairs(rows)
    if not pairs:
        return None
    more = sum(keep_ratio(simple) < keep_ratio(hard) for simple, hard in pairs)
    less = sum(keep_ratio(simple) > keep_ratio(hard) for simple, hard in pairs)
    return {
        "pairs": len(pairs),
        "simpler_pooled_more": more,
        "simpler_pooled_less": less,
        "same": len(pairs) - more - less,
        "keep_ratio_simpler": float(np.mean([keep_ratio(simple) for simple, _ in pairs])),
        "keep_ratio_harder": float(np.mean([keep_ratio(hard) for _, hard in pairs])),
        "sign_test_p": mcnemar(more, less),
    }


def image_pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The simplest and the hardest question of every picture that has several.

    Simpler is the lower recorded difficulty, else the question of fewer words; ties are left out. One pair per picture:
    one with many questions counts once.
    """
    of_image: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("image_sha"):
            of_image.setdefault(row["image_sha"], []).append(row)
    return [pair for members in of_image.values() if (pair := _simpler_and_harder(members)) is not None]


def _simpler_and_harder(rows: Sequence[Row]) -> tuple[Row, Row] | None:
    """By recorded difficulty where all have one, then by number of words: never by the route."""
    has_levels = all(row.get("difficulty") in _DIFFICULTIES for row in rows)

    def weight(row: Row) -> tuple[int, int]:
        level = _DIFFICULTIES.index(row["difficulty"]) if has_levels else 0
        return level, len(str(row.get("question") or "").split())

    ranked = sorted(rows, key=weight)
    return None if weight(ranked[0]) == weight(ranked[-1]) else (ranked[0], ranked[-1])


def _sites(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per site: its layer, the share of each choice, kept over entering tokens."""
    routes = [row["route"].split(",") for row in rows]
    layers = rows[0].get("sites") or []
    sites = []
    for place in range(max(map(len, routes))):
        here = [(row, route[place]) for row, route in zip(rows, routes, strict=True) if place < len(route)]
        counts = Counter(choice for _, choice in here)
        entering = sum(row["visual_tokens"][place] for row, _ in here)
        sites.append(
            {
                "site": place + 1,
                "after_layer": layers[place] if place < len(layers) else None,
                "choices": {choice: count / len(here) for choice, count in sorted(counts.items())},
                "keep_ratio": sum(row["visual_tokens"][place + 1] for row, _ in here) / entering,
            }
        )
    return sites


def _summary(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """n, keep ratio with its 95% interval, accuracy (None where correctness was not recorded)."""
    kinds, counts = resample([keep_ratio(row) for row in rows], seed)
    draws = counts @ np.array(kinds, dtype=np.float64) / len(rows)
    graded = [right for row in rows if (right := is_right(row)) is not None]
    return {
        "n": len(rows),
        "keep_ratio": float(np.mean([keep_ratio(row) for row in rows])),
        "ci95": list(interval(draws)),
        "accuracy": sum(graded) / len(graded) if graded else None,
    }


def _by_difficulty(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    levels = sorted({row["difficulty"] for row in rows if row.get("difficulty")}, key=_difficulty_order)
    return {level: _summary([row for row in rows if row.get("difficulty") == level], seed) for level in levels}


def _difficulty_order(level: str) -> tuple[int, str]:
    return (_DIFFICULTIES.index(level) if level in _DIFFICULTIES else len(_DIFFICULTIES)), level


def _by_correctness(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    split = {"right": True, "wrong": False}
    members = {name: [row for row in rows if is_right(row) is wanted] for name, wanted in split.items()}
    return {name: _summary(found, seed) for name, found in members.items() if found}


def _by_figure(rows: Sequence[Row], name: str, seed: int) -> dict[str, Any] | None:
    """Rank correlation of a figure of the picture with the keep ratio, and its quartiles; None if it never differs."""
    known = [(value, row) for row in rows if (value := _figure(row, name)) is not None]
    if len({value for value, _ in known}) < 2:
        return None
    values = np.array([value for value, _ in known])
    bounds = np.unique(np.quantile(values, np.linspace(0, 1, QUARTILES + 1)))
    place = np.clip(np.searchsorted(bounds, values, side="right") - 1, 0, len(bounds) - 2)
    bins = []
    for number, (low, high) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        members = [row for (_, row), at in zip(known, place, strict=True) if at == number]
        if members:
            bins.append({"from": float(low), "to": float(high), **_summary(members, seed)})
    return {"spearman": rank_correlation(values, np.array([keep_ratio(row) for _, row in known])), "bins": bins}


def _figure(row: Row, name: str) -> float | None:
    if name == "image_pixels":
        width, height = row.get("image_width"), row.get("image_height")
        return None if width is None or height is None else float(width) * float(height)
    value = row.get(name)
    return None if value is None else float(value)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Spearman's: the correlation of mean ranks; None where one side never differs."""
    ranks = [_mean_ranks(side) for side in (first, second)]
    if any(np.ptp(side) == 0 for side in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return means
