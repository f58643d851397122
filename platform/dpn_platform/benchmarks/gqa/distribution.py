"""GQA's distribution: how far the predicted answers of a question group are from the gold ones.

The figure is the official program's: chi-square per global group, weighted by questions, divided by 100.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable


def distribution(answered: Iterable[tuple[str | None, str, str]]) -> float | None:
    """The distance of the two distributions; 0 where they are equal, lower is better.

    Only gold answers of a group are summed over: a prediction outside them counts by being absent from them.

    Args:
        answered: per question its global group (None: it has none), the gold answer and the predicted one.

    Returns:
        The figure; None where no question has a group.
    """
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    predicted: dict[str, Counter[str]] = defaultdict(Counter)
    for group, right, said in answered:
        if group is not None:
            gold[group][right] += 1
            predicted[group][said] += 1
    if not gold:
        return None
    weighted = sum(_chi_square(gold[group], predicted[group]) * gold[group].total() for group in gold)
    return weighted / sum(counts.total() for counts in gold.values()) / 100


def _chi_square(expected: Counter[str], observed: Counter[str]) -> float:
    return sum((observed[answer] - count) ** 2 / count for answer, count in expected.items())
