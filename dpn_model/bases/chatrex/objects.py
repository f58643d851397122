"""What the slow tower's maps say inside a box: RoIAlign and mean in their separable form (spec chatrex 1.2).

All bins of a box are equal, so the mean over RoIAlign's 7x7 cells is a weighted sum over rows times one over columns.
The weights depend on boxes alone and are worked out on the host. Shape letters: N boxes, L resolutions, C channels of
all of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dpn_model.objects.boxes import FloatArray

#: cells of a box along one axis, each the mean of as many samples as it covers cells of the map
_BINS = 7
_TEMPERATURE = 10000.0


def box_features(maps: Sequence[Tensor], boxes: FloatArray, side: int) -> Tensor:
    """float32[N, C]: content of every box, and where it is.

    Args:
        maps: float[C_l, h_l, w_l] of every resolution, the finest first; all square.
        boxes: float64[N, 4], (x1, y1, x2, y2) in pixels of the square input.
        side: of the input in pixels.
    """
    cells = maps[0].shape[-1]
    columns, rows = (axis_weights(boxes[:, axis], boxes[:, axis + 2], cells, cells / side) for axis in (0, 1))
    found = []
    for one in maps:
        finer = upsampling(one.shape[-1], cells)
        of_rows, of_columns = (
            torch.from_numpy(weights @ finer).to(device=one.device, dtype=torch.float32) for weights in (rows, columns)
        )
        found.append(torch.einsum("ny,cyx,nx->nc", of_rows, one.float(), of_columns))
    content = torch.cat(found, dim=1)
    where = torch.from_numpy(box_embedding(boxes / side, content.shape[1]))
    return content + where.to(device=content.device, dtype=torch.float32)


def axis_weights(low: FloatArray, high: FloatArray, cells: int, scale: float) -> FloatArray:
    """float64[N, cells]: how much of a box's mean every cell of one axis is, with `aligned=False`.

    Samples further than one cell outside the map count and see zero, as in RoIAlign.

    Args:
        low, high: float64[N], sides of the boxes in pixels.
        cells: of the map along the axis.
        scale: cells per pixel.
    """
    start = scale * low
    extent = np.maximum(scale * high - start, 1.0)
    samples = _BINS * np.ceil(extent / _BINS).astype(np.int64)
    number = np.arange(samples.max(initial=0))
    place = start[:, None] + (number + 0.5) * (extent / samples)[:, None]
    share = ((number < samples[:, None]) & (place >= -1) & (place <= cells)) / samples[:, None]
    place = np.maximum(place, 0.0)
    left = np.minimum(place.astype(np.int64), cells - 1)
    right = np.minimum(left + 1, cells - 1)
    beyond = np.where(left == cells - 1, 0.0, place - left)
    box = np.broadcast_to(np.arange(len(low))[:, None], left.shape)
    weights = np.zeros((len(low), cells))
    np.add.at(weights, (box, left), share * (1 - beyond))
    np.add.at(weights, (box, right), share * beyond)
    return weights


@cache
def upsampling(cells: int, finer: int) -> FloatArray:
    """float64[finer, cells]: bilinear interpolation along one axis, align_corners False."""
    place = np.maximum((np.arange(finer) + 0.5) * cells / finer - 0.5, 0.0)
    left = np.minimum(place.astype(np.int64), cells - 1)
    beyond = place - left
    matrix = np.zeros((finer, cells))
    np.add.at(matrix, (np.arange(finer), left), 1 - beyond)
    np.add.at(matrix, (np.arange(finer), np.minimum(left + 1, cells - 1)), beyond)
    return matrix


def box_embedding(boxes: FloatArray, width: int) -> FloatArray:
    """float64[N, width]: sines and cosines of centre and size, in the order y, x, width, height.

    Args:
        boxes: float64[N, 4], (x1, y1, x2, y2) in shares of the input's side.
        width: of the features; a multiple of 8.
    """
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    values = np.stack([centre[:, 1], centre[:, 0], size[:, 0], size[:, 1]], axis=1)
    each = width // 4
    number = np.arange(each)
    angles = 2 * np.pi * values[:, :, None] / _TEMPERATURE ** (2 * (number // 2) / each)
    return np.where(number % 2 == 0, np.sin(angles), np.cos(angles)).reshape(len(boxes), 4 * each)
