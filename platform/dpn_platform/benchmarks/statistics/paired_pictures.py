"""Two points on the same pictures: their difference, its interval, and how likely so large a gain is without any.

Under no gain the sum of the pictures' differences, over the root of the sum of their squares, is nearly normal; of
single right or wrong answers this is McNemar's statistic, with its continuity correction. Unlike a bootstrap's shares
it is known at the small levels that many looks leave.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dpn_platform.benchmarks.statistics.pictures import Floats

_ERRORS_95 = 1.959964


class PictureChange(NamedTuple):
    """A difference of means with its standard error, and the one-sided p-value of a gain."""

    value: float
    error: float
    p_value: float

    @property
    def ci95(self) -> tuple[float, float]:
        """Two-sided."""
        return self.value - _ERRORS_95 * self.error, self.value + _ERRORS_95 * self.error


def picture_change(part_C: Floats, flattery: float = 0.0) -> PictureChange:
    """From every picture's part of the difference, which together are the difference; `flattery` as below."""
    steps = np.abs(part_C[part_C != 0])
    smallest = float(steps.min()) if len(steps) else 0.0
    return change_of_sums(float(part_C.sum()), float((part_C**2).sum()), smallest, len(part_C), flattery)


def change_of_sums(value: float, squares: float, smallest: float, count: int, flattery: float = 0.0) -> PictureChange:
    """The same from sums.

    Args:
        value, squares: sums of the pictures' parts and of their squares.
        smallest: part that is not zero, which the continuity correction takes off.
        count: pictures.
        flattery: by how much the second point looks better here than it is. A gain that is seen is tested as that much
            larger; where none is seen, none is tested.
    """
    if squares <= 0:
        return PictureChange(value, 0.0, 1.0)
    error = math.sqrt(max(0.0, squares - value**2 / count) * count / max(1, count - 1))
    tested = value + flattery if value > 0 else value
    return PictureChange(value, error, 0.5 * math.erfc((tested - smallest) / math.sqrt(2 * squares)))
