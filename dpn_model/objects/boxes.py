"""Boxes: overlap, suppression, checks, and what training mixes. Boxes are (x1, y1, x2, y2) in pixels.

Shape letters: N, M boxes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: proposals that overlap a true box by more are that box again (spec chatrex 4)
SAME_BOX_IOU = 0.9


def box_array(boxes: Sequence[Sequence[float]] | FloatArray) -> FloatArray:
    """float64[N, 4], also of none.

    Raises:
        ValueError: rows of another length, or that hold no numbers.
    """
    try:
        found = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("boxes are no list of [x1, y1, x2, y2] numbers") from None
    if not found.size:
        return found.reshape(0, 4)
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(f"boxes have shape {list(found.shape)}; wanted [N, 4]: x1, y1, x2, y2 in pixels")
    return found


def check_boxes(boxes: FloatArray, size: tuple[int, int] | None = None, what: str = "boxes") -> None:
    """Refuses what is no box of a picture.

    Args:
        boxes: float64[N, 4].
        size: (width, height) of the picture; None where it is not known yet.
        what: names them in errors.

    Raises:
        ValueError: not a number, no area, or outside the picture, with the first such box.
    """
    for number, (left, top, right, bottom) in enumerate(boxes.tolist()):
        told = f"{what}[{number}] = [{left:g}, {top:g}, {right:g}, {bottom:g}]"
        if not np.isfinite([left, top, right, bottom]).all():
            raise ValueError(f"{told} is not finite")
        if right <= left or bottom <= top:
            raise ValueError(f"{told} has no area; wanted x1 < x2 and y1 < y2")
        if left < 0 or top < 0 or (size is not None and (right > size[0] or bottom > size[1])):
            picture = "" if size is None else f" of {size[0]} x {size[1]}"
            raise ValueError(f"{told} is outside the picture{picture}")


def intersections(first: FloatArray, second: FloatArray) -> FloatArray:
    """float64[N, M]: pixels that every pair shares."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    sides = np.clip(np.minimum(first[:, None, 2:], second[None, :, 2:]) - corner, 0, None)
    return np.asarray(sides.prod(axis=2))


def iou_matrix(first: FloatArray, second: FloatArray) -> FloatArray:
    """float64[N, M]: intersection over union of every pair."""
    shared = intersections(first, second)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppressed(boxes: FloatArray, scores: FloatArray, threshold: float) -> IntArray:
    """Class-agnostic non-maximum suppression.

    Args:
        boxes: float64[N, 4].
        scores: float64[N].
        threshold: of two boxes that overlap by more, the one of the higher score is kept.

    Returns:
        int64, places of the kept boxes, best score first; equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou_matrix(boxes, boxes) > threshold
    kept: list[int] = []
    for place in order.tolist():
        if not overlaps[place, kept].any():
            kept.append(place)
    return np.asarray(kept, dtype=np.int64)


def unlike(boxes: FloatArray, others: FloatArray) -> IntArray:
    """Places of the `boxes` that are none of the `others` again: proposals that training adds to true boxes."""
    if not len(boxes) or not len(others):
        return np.arange(len(boxes))
    return np.flatnonzero(iou_matrix(boxes, others).max(axis=1) <= SAME_BOX_IOU)


def on_square(boxes: FloatArray, size: tuple[int, int], side: int) -> FloatArray:
    """Boxes of a picture of `size` (width, height) on the square of `side` pixels it is centred on (spec chatrex 1.4).

    Both sides of the padding are whole pixels, as the picture's own padding has them.
    """
    width, height = size
    longest = max(width, height)
    left, top = (longest - width) // 2, (longest - height) // 2
    return np.asarray((boxes + [left, top, left, top]) * (side / longest))
