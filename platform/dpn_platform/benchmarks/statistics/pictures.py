"""Pictures with their questions, drawn as wholes for many points at once: the same draws for every point.

A draw is a function of the questions, a seed and its number alone. Points that come later are drawn like those that
were there, so what was worked out of these stays.

Shape letters: P points, C pictures, R draws.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: of counts held in memory together
_ENTRIES_AT_ONCE = 4_000_000
#: sums of shares leave rounding behind, and points that are equal are to be equal in every draw
_DIGITS = 10


@dataclass(frozen=True)
class Pictures:
    """The pictures that all points were asked about.

    Attributes:
        digest: of their questions.
        size_C: questions of each.
        benchmark_C: number of its benchmark, ascending; an accuracy is the mean over benchmarks.
    """

    digest: str
    size_C: Floats
    benchmark_C: Integers

    @property
    def num_questions(self) -> int:
        """Over all pictures."""
        return int(self.size_C.sum())

    @property
    def weight_C(self) -> Floats:
        """Of a picture's sum in the mean over benchmarks of the mean over their questions."""
        sizes = np.bincount(self.benchmark_C, self.size_C)
        return 1 / (len(sizes) * sizes[self.benchmark_C])

    def means(self, sum_PC: Floats) -> Floats:
        """The mean over benchmarks of the mean over questions, from every picture's sum."""
        return sum_PC @ self.weight_C

    def drawn_means(self, sum_PC: Floats, seed: int, num_draws: int) -> tuple[Floats, Floats]:
        """The same of every draw, whole pictures drawn within every benchmark; and of the pictures that it left out.

        Returns:
            Two arrays (P, R); the second is NaN where a draw left nothing out of a benchmark.
        """
        inside, outside = [], []
        for count_RC in self.drawn_counts(seed, num_draws):
            left_RC = (count_RC == 0).astype(np.float64)
            inside.append(sum_PC @ self._weights(count_RC).T)
            outside.append(sum_PC @ self._weights(left_RC).T)
        return np.concatenate(inside, axis=1).round(_DIGITS), np.concatenate(outside, axis=1)

    def drawn_ratios(self, above_PC: Floats, below_PC: Floats, seed: int, num_draws: int) -> Floats:
        """Sum over sum in every draw, (P, R): of costs and of what the same questions cost without reduction."""
        counts = self.drawn_counts(seed, num_draws)
        return np.concatenate([(above_PC @ one.T) / (below_PC @ one.T) for one in counts], axis=1)

    def drawn_counts(self, seed: int, num_draws: int) -> Iterator[Floats]:
        """How often each picture is drawn, (some draws, C); within a benchmark as many as it has."""
        num_pictures = len(self.size_C)
        generator = generator_of(seed, self.digest)
        of_benchmarks = np.bincount(self.benchmark_C).tolist()
        step = max(1, _ENTRIES_AT_ONCE // num_pictures)
        for start in range(0, num_draws, step):
            size = min(step, num_draws - start)
            first_R, found = np.arange(size)[:, None], []
            for count in of_benchmarks:
                drawn = generator.integers(count, size=(size, count)) + count * first_R
                found.append(np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count))
            yield np.concatenate(found, axis=1).astype(np.float64)

    def _weights(self, count_RC: Floats) -> Floats:
        """Of a picture's sum in every draw's mean; in place of the counts."""
        counts = np.bincount(self.benchmark_C)
        for count, end in zip(counts, counts.cumsum(), strict=True):
            members = slice(end - count, end)  # they are in order
            sizes = len(counts) * (count_RC[:, members] @ self.size_C[members])
            count_RC[:, members] /= np.where(sizes > 0, sizes, np.nan)[:, None]
        return count_RC


def generator_of(seed: int, what: str) -> np.random.Generator:
    """Random numbers that belong to a text."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(what.encode()).digest()[:8])])


def drawn_seeds(name: str, num_seeds: int, seed: int, num_draws: int) -> Floats:
    """Weights of a setting's training seeds in every draw, (seeds, R), together 1.

    Seeds are drawn with replacement. So few of them spread too little, by (S - 1) / S in variance; this is made good.
    """
    if num_seeds == 1:
        return np.ones((1, num_draws))
    even = 1 / num_seeds
    drawn = generator_of(seed, name).multinomial(num_seeds, [even] * num_seeds, size=num_draws).T / num_seeds
    return even + (drawn - even) * (num_seeds / (num_seeds - 1)) ** 0.5
