"""How many true boxes are among proposals: the upper bound of whoever answers by their indices (spec chatrex 5)."""

from __future__ import annotations

import numpy as np

from dpn_model.objects.boxes import FloatArray, IntArray, iou_matrix

#: overlaps at which a box counts as found: COCO's .5, .55 ... .95, to the bit
OVERLAPS = np.linspace(0.5, 0.95, 10)


def found_at(true: FloatArray, proposals: FloatArray) -> IntArray:
    """int64[10]: of the true boxes, how many some proposal covers with at least each of `OVERLAPS`.

    One proposal may cover several: two names for one place are two right answers.

    Args:
        true: float64[M, 4].
        proposals: float64[N, 4].
    """
    if not len(true) or not len(proposals):
        return np.zeros(len(OVERLAPS), dtype=np.int64)
    best = iou_matrix(true, proposals).max(axis=1)
    return np.asarray((best[:, None] >= OVERLAPS).sum(axis=0))
