"""How each benchmark's headline follows from its scored questions, for the questions as they are and resampled.

What is drawn as a whole (MME's image, MMBench's question with its rotations) is one unit; a unit's outcome is all that
the headline needs of it. Scores are percentages; MME's are points. Source: spec benchmarks 3.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.benchmarks.statistics.bootstrap import Array

Unit = tuple[QuestionScore, ...]


@dataclass(frozen=True)
class HeadlineRule:
    """One way of making a headline.

    Attributes:
        outcome: of one unit.
        statistic: outcomes (K) and their counts (R, K) -> the part's score in each of R draws.
        is_sum: whether parts are added (MME); otherwise their mean is taken.
        compares_units: whether won and lost are units as wholes; otherwise their single questions.
    """

    outcome: Callable[[Unit], Hashable]
    statistic: Callable[[Sequence[Hashable], Array], Array]
    is_sum: bool = False
    compares_units: bool = False


def rule_of(benchmark: str) -> HeadlineRule:
    """The rule behind a benchmark's headline."""
    return _RULES.get(benchmark, _MEAN)


def is_mean_of_questions(benchmark: str) -> bool:
    """Whether the headline is a mean of what single questions score: no F1, no rotations, no points per image."""
    return rule_of(benchmark) in (_MEAN, _MEAN_BY_PICTURE)


def parts_of(pairs: Sequence[Sequence[QuestionScore]]) -> dict[str, list[tuple[Unit, ...]]]:
    """Part -> its units, each as one tuple of questions per run.

    Args:
        pairs: for every question, its scores in each of the runs.
    """
    units: dict[str, dict[Hashable, list[Sequence[QuestionScore]]]] = {}
    for place, pair in enumerate(pairs):
        first = pair[0]
        of_part = units.setdefault(first.part or "", {})
        of_part.setdefault(place if first.unit is None else first.unit, []).append(pair)
    return {
        part: [tuple(zip(*members, strict=True)) for members in of_part.values()] for part, of_part in units.items()
    }


def combined(rule: HeadlineRule, parts: Sequence[Array]) -> Array:
    """The headline from its parts' scores."""
    total = np.sum(parts, axis=0)
    return total if rule.is_sum else total / len(parts)


def _mean_outcome(unit: Unit) -> float:
    """Percent; a question asked in rotations is right when all of them are."""
    return 100.0 * min(question.score for question in unit)


def _image_points(unit: Unit) -> float:
    """MME: accuracy plus accuracy+ of one image and its two questions (0, 50 or 200)."""
    right = sum(question.score for question in unit)
    return 50.0 * right + 100.0 * (right == len(unit))


def _mean_of_draws(kinds: Sequence[Hashable], counts: Array) -> Array:
    return counts @ np.array(kinds, dtype=np.float64) / counts.sum(axis=1)


def _f1_of_draws(kinds: Sequence[Hashable], counts: Array) -> Array:
    """F1 of "yes" in percent; 0 where nothing is yes."""
    hits, wrong = np.zeros(len(counts)), np.zeros(len(counts))
    for kind, column in zip(kinds, counts.T, strict=True):
        if kind == ("yes", "yes"):
            hits += column
        elif kind in (("yes", "no"), ("no", "yes")):
            wrong += column
    return 100.0 * np.divide(2 * hits, 2 * hits + wrong, out=np.zeros(len(counts)), where=2 * hits + wrong > 0)


def _share_of_draws(kinds: Sequence[Hashable], counts: Array) -> Array:
    """Mean score of questions in percent, where whole pictures with their questions are drawn."""
    outcomes = np.array(kinds, dtype=np.float64)
    return 100.0 * (counts @ outcomes[:, 0]) / (counts @ outcomes[:, 1])


_MEAN = HeadlineRule(_mean_outcome, _mean_of_draws)
#: of benchmarks that ask a published data set
_MEAN_BY_PICTURE = HeadlineRule(lambda unit: (sum(one.score for one in unit), len(unit)), _share_of_draws)
_MMBENCH = HeadlineRule(_mean_outcome, _mean_of_draws, compares_units=True)
_RULES = {
    "mme": HeadlineRule(_image_points, _mean_of_draws, is_sum=True),
    "pope": HeadlineRule(lambda unit: (str(unit[0].parsed), str(unit[0].gold)), _f1_of_draws),
    "mmbench": _MMBENCH,
    "mmbench-cn": _MMBENCH,
    **dict.fromkeys(("heldout", "detection", "referring", "regions", "counting"), _MEAN_BY_PICTURE),
}
