"""Which cells of a grid a regular lattice of a given number has. No torch."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def spread(count: int, length: int) -> np.ndarray:
    """int64[count], ascending, of 0 to length - 1: as evenly apart as whole numbers can be, and their own mirror image.

    They are the middles of `count` equal stretches, halves rounded towards the centre; so no border is preferred.
    """
    number = np.arange(count)
    places, rest = np.divmod((2 * number + 1) * length - count, 2 * count)
    rounded: np.ndarray = places + ((rest > count) | ((rest == count) & (2 * number + 1 < count)))
    return rounded


def rows_of_lattice(count: int, height: int, width: int) -> int:
    """How many rows of a height x width grid hold a lattice of `count` cells.

    Of all numbers that can: first those whose steps down and across differ at most by a factor of two; of these those
    that divide `count`, so that all rows have equally many cells; of these the most equal steps; then the fewest.
    """

    def rank(rows: int) -> tuple[bool, bool, float, int]:
        unequal = abs(math.log(height * count / (width * rows**2)))  # steps: height / rows, and width * rows / count
        return unequal > math.log(2) + 1e-9, count % rows != 0, round(unequal, 9), rows

    return min((rows for rows in range(1, min(height, count) + 1) if count <= rows * width), key=rank)


@lru_cache(maxsize=4096)
def lattice(count: int, height: int, width: int) -> tuple[tuple[int, np.ndarray], ...]:
    """Rows of a height x width grid that are kept, ascending, each with its columns, int64.

    Where the number of rows does not divide `count`, some rows, themselves spread evenly, have one cell more.
    """
    rows = rows_of_lattice(count, height, width)
    share, more = divmod(count, rows)
    longer = set(spread(more, rows).tolist()) if more else set()
    return tuple(
        (row, spread(share + (number in longer), width)) for number, row in enumerate(spread(rows, height).tolist())
    )
