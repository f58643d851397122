"""Are four numbers x1, y1, x2, y2 or x, y, width, height? Boxes tell, where their picture allows one reading alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from dpn_model.objects.boxes import FloatArray
from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.boxes import xyxy_of_xywh
from dpn_platform.data.convert.options import READINGS, Reading

#: pixels by which a box may leave its picture and still be meant so: sets round, and count edges differently
SLACK = 1.0
#: lists that are looked at before one is believed
LOOKED_AT = 256


def corners(boxes: FloatArray, reading: Reading) -> FloatArray:
    """float64[N, 4], x1, y1, x2, y2, of boxes that are read so."""
    return boxes if reading == "xyxy" else xyxy_of_xywh(boxes)


def possible_readings(boxes: FloatArray, size: tuple[int, int]) -> list[Reading]:
    """Those by which every box has an area and lies in the picture.

    Args:
        boxes: float64[N, 4].
        size: (width, height) of the picture.
    """
    return [reading for reading in READINGS if _fits(corners(boxes, reading), size)]


def decided_reading(lists: Iterable[tuple[FloatArray, tuple[int, int]]], where: str) -> Reading:
    """The reading that fits where only one does.

    Args:
        lists: boxes of a picture and its size; read until one decides, and `LOOKED_AT` of them at least.
        where: names the file in errors.

    Raises:
        DpnError: no list decides, or they contradict each other; the line names the option.
    """
    votes: Counter[Reading] = Counter()
    looked_at = 0
    for boxes, size in lists:
        looked_at += 1
        readings = possible_readings(boxes, size)
        if len(readings) == 1:
            votes[readings[0]] += 1
        if votes and looked_at >= LOOKED_AT:
            break
    if len(votes) == 1:
        return next(iter(votes))
    told = ", ".join(f"{votes[reading]} say {reading}" for reading in READINGS)
    raise DpnError(f"{where}: of {looked_at} lists of boxes {told}; say how to read them by --boxes xyxy|xywh")


def _fits(boxes: FloatArray, size: tuple[int, int]) -> bool:
    has_area = bool((boxes[:, 2:] > boxes[:, :2]).all())
    return has_area and bool((boxes[:, :2] >= -SLACK).all() and (boxes[:, 2:] <= np.asarray(size) + SLACK).all())
