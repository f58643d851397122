"""Rotary positions of a packed batch: one number per token, or three where a base has multimodal RoPE.

Shape letters: B samples, T packed tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan, contiguous_positions


def multimodal_positions(lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
    """int64[T, 3] of Qwen-VL's multimodal RoPE: (time, row, column).

    Text advances all three by one. An image that begins at p has (p, p + row, p + column) and is followed by
    p + max(height, width).
    """
    positions_T3 = np.empty((sum(lengths), 3), dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    by_sample: dict[int, list[ImageSpan]] = {}
    for image in images:
        if not image.num_tokens:  # nothing is left of it
            continue
        by_sample.setdefault(image.sample, []).append(image)
    for sample in range(len(lengths)):
        row, position = int(starts[sample]), 0
        for image in by_sample.get(sample, []):
            gap = image.start - row
            positions_T3[row : image.start] = (position + np.arange(gap))[:, None]
            position += gap
            row = image.start + image.num_tokens
            cells = np.stack(np.divmod(np.arange(image.num_tokens), image.width), axis=1)
            positions_T3[image.start : row, 0] = position
            positions_T3[image.start : row, 1:] = position + cells
            position += max(image.height, image.width)
        end = int(starts[sample + 1])
        positions_T3[row:end] = (position + np.arange(end - row))[:, None]
    return positions_T3


def renumbered_positions(before: Tensor, lengths: Sequence[int], images: Sequence[ImageSpan]) -> Tensor:
    """Positions of a batch after a reduction, counted anew by the rule that `before` (of any batch) follows.

    Returns:
        int64[T] or int64[T, 3], on `before`'s device.
    """
    counted = multimodal_positions(lengths, images) if before.ndim == 2 else contiguous_positions(lengths)
    return torch.from_numpy(counted).to(before.device)


def positions_behind(position_ids_T: Tensor, last_B: Tensor) -> Tensor:
    """int64[B] or int64[B, 3]: rotary position of the token that comes behind each of the rows `last_B`."""
    last = position_ids_T[last_B]
    return last + 1 if last.ndim == 1 else (last.amax(dim=1, keepdim=True) + 1).expand_as(last)


def rotary_ids(position_ids_T: Tensor) -> Tensor:
    """The shape a base's rotary embedding takes: int64[1, T], or int64[3, 1, T] for multimodal RoPE."""
    return position_ids_T[None] if position_ids_T.ndim == 1 else position_ids_T.T[:, None]
