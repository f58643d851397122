"""A score with its 95% interval over pictures: whole pictures are drawn, with all questions about them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpn_platform.benchmarks.statistics.bootstrap import Array, clustered_means, interval


@dataclass(frozen=True)
class Estimate:
    """A score, 0 to 1 unless it says otherwise.

    Attributes:
        n: what it is a mean over; 0: there was nothing, and the value is None.
        draws: the same of other pictures drawn; NaN where a draw held nothing.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    draws: Array = field(repr=False, compare=False)

    def to_json(self, scale: float = 100.0) -> dict[str, Any]:
        """`{value, ci95, n}`, in percent unless `scale` says otherwise."""
        ci95 = None if self.ci95 is None else [scale * bound for bound in self.ci95]
        return {"value": in_percent(self.value, scale), "ci95": ci95, "n": self.n}


def in_percent(value: float | None, scale: float = 100.0) -> float | None:
    """A fraction as papers print it; nothing stays nothing."""
    return None if value is None else scale * value


def estimate_of(value: float, draws: Array, n: int) -> Estimate:
    """From the draws; NaN stands for nothing."""
    there = draws[~np.isnan(draws)]
    if np.isnan(value):
        return Estimate(None, None, 0, draws)
    return Estimate(value, interval(there) if len(there) else None, n, draws)


def mean_by_picture(values: Sequence[float], pictures: Sequence[Hashable], seed: int) -> Estimate:
    """The mean over questions.

    Args:
        values: one per question.
        pictures: what each question is about; equal ones are drawn together.
        seed: of the draws.
    """
    if not values:
        return Estimate(None, None, 0, np.zeros(0))
    numbers = {picture: number for number, picture in enumerate(dict.fromkeys(pictures))}
    clusters = np.array([numbers[picture] for picture in pictures], dtype=np.int64)
    value = np.array(values, dtype=np.float64)
    return estimate_of(float(value.mean()), clustered_means(value, clusters, seed), len(values))
