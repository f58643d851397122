"""Boxes of data sets as records want them: inside the picture, with an area, and at most as many as can be named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dpn_model.objects.boxes import MAX_OBJECTS, FloatArray, IntArray

#: what data sets write; sums of their numbers have more, which are noise
DECIMALS = 2


def clipped(boxes: FloatArray, size: tuple[int, int]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Boxes cut off at the picture's edges.

    Args:
        boxes: float64[N, 4], x1, y1, x2, y2.
        size: (width, height) of the picture.

    Returns:
        float64[N, 4] with `DECIMALS` decimals, and bool[N], whether each has an area.
    """
    width, height = size
    inside = np.asarray(np.clip(boxes, 0, [width, height, width, height]), np.float64).round(DECIMALS)
    return inside, (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])


def xyxy_of_xywh(boxes: FloatArray) -> FloatArray:
    """float64[N, 4]: corners of boxes that are given as x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def nameable(boxes: FloatArray, needed: Sequence[int]) -> IntArray:
    """Places of the boxes that a record can name, in order: the `needed` ones, then the largest of the others.

    Args:
        boxes: float64[N, 4].
        needed: places of those that must not be left out; of these the first `MAX_OBJECTS` are kept.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    by_area = np.argsort(-areas, kind="stable").tolist()
    chosen = list(dict.fromkeys([*needed, *by_area]))[:MAX_OBJECTS]
    return np.sort(np.asarray(chosen, dtype=np.int64))
