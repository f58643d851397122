"""Seeded percentile bootstrap over questions: what a score could have been, had other questions been drawn.

Questions with equal outcomes are counted together, so that one draw of the bootstrap is one multinomial draw over the
few outcomes there are: the same distribution as drawing the questions one by one, at a cost that does not grow with n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NUM_RESAMPLES = 4000
#: of draws held in memory together
_ENTRIES_AT_ONCE = 4_000_000


def resample(outcomes: Sequence[Hashable], seed: int, stratum: int = 0) -> tuple[list[Hashable], Array]:
    """Draws as many outcomes as there are, again and again.

    Args:
        outcomes: one per question (or per pair, or group: whatever is drawn as a whole).
        seed: of the generator.
        stratum: number of the stratum, for scores that combine several parts drawn apart.

    Returns:
        The distinct outcomes K, and their counts of shape (NUM_RESAMPLES, K).
    """
    counted = Counter(outcomes)
    kinds = sorted(counted, key=repr)
    n = len(outcomes)
    shares = np.array([counted[kind] for kind in kinds], dtype=np.float64) / max(n, 1)
    generator = np.random.default_rng([seed, stratum])
    return kinds, generator.multinomial(n, shares, size=NUM_RESAMPLES).astype(np.float64)


def clustered_means(values: Array, clusters: npt.NDArray[np.int64], seed: int, stratum: int = 0) -> Array:
    """The mean over questions in every draw, where clusters (the questions of one picture) are drawn as wholes.

    Args:
        values: one per question, (N,); any numbers.
        clusters: the cluster of every question, (N,); numbers from 0 without gaps.
        seed: of the generator.
        stratum: number of the stratum, for scores that combine several parts drawn apart.
    """
    sums, sizes = np.bincount(clusters, values), np.bincount(clusters).astype(np.float64)
    count = len(sizes)
    generator = np.random.default_rng([seed, stratum])
    means = []
    step = max(1, _ENTRIES_AT_ONCE // count)
    for start in range(0, NUM_RESAMPLES, step):
        drawn = generator.integers(count, size=(min(step, NUM_RESAMPLES - start), count))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    return np.concatenate(means)


def interval(values: Array) -> tuple[float, float]:
    """The middle 95% of the resampled scores."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def resampled_means(scores: Sequence[float], seed: int, stratum: int = 0) -> Array:
    """The mean score of every draw."""
    kinds, counts = resample(scores, seed, stratum)
    return counts @ np.array(kinds, dtype=np.float64) / len(scores)
