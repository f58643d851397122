"""Pooling experts: windows with kernel = stride (spec A.6), and what becomes of a window.

Maximum and mean have no weights; the depthwise convolution has one weight per channel and cell.

Shape letters: V windows, K cells of a window, D model width.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.pooling.grid import pooled_grid, pooled_size
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import Kernel
from dpn_model.methods.windows import PoolWindows, max_of_windows
from dpn_model.packing import ImageSpan


@lru_cache(maxsize=4096)
def window_rows(height: int, width: int, kernel: Kernel, rounding: str = "floor", row_end: int = 0) -> np.ndarray:
    """int64[V, K]: for every window of a row-major grid, the rows it covers, its first cell first; -1 outside.

    Where every row of the grid ends with a newline (`row_end`), so does every pooled row: newlines are pooled with
    those above and below them, never with cells.
    """
    out_h, out_w = pooled_size(height, width, kernel, rounding)
    row = (np.arange(out_h) * kernel[0])[:, None, None, None] + np.arange(kernel[0])[None, None, :, None]
    column = (np.arange(out_w) * kernel[1])[None, :, None, None] + np.arange(kernel[1])[None, None, None, :]
    rows = np.where((row < height) & (column < width), row * (width + row_end) + column, -1)
    rows = rows.reshape(out_h, out_w, -1)
    if row_end:
        newline = np.full((out_h, 1, kernel[0], kernel[1]), -1)
        newline[..., 0] = np.where(row < height, row * (width + 1) + width, -1)[:, :, :, 0]
        rows = np.concatenate([rows, newline.reshape(out_h, 1, -1)], axis=1)
    rows = rows.reshape(-1, kernel[0] * kernel[1])
    rows.setflags(write=False)
    return rows


def tokens_after(image: ImageSpan, kernel: Kernel, rounding: str = "floor") -> int:
    """Visual tokens an image would have after pooling; a method without a grid cannot be pooled.

    Raises:
        ValueError: the image's tokens no longer form a grid.
    """
    height, width = pooled_size(*_grid_of(image), kernel, rounding)
    return height * (width + image.row_end) if width else 0


def pool_image(
    image: ImageSpan, kernel: Kernel, rounding: str = "floor", pool: PoolWindows = max_of_windows
) -> ImageRows:
    """Rows of one image after pooling with `kernel`.

    Raises:
        ValueError: the grid is smaller than the kernel, or a convolution would meet newlines.
    """
    if image.row_end and isinstance(pool, nn.Module):
        raise ValueError("method.pool = conv; allowed for pictures whose rows end with a newline: max, avg")
    size = pooled_grid(*_grid_of(image), kernel, rounding)
    windows = window_rows(image.height, image.width, kernel, rounding, image.row_end)
    return ImageRows(windows, *size, pool=pool, row_end=image.row_end)


def _grid_of(image: ImageSpan) -> tuple[int, int]:
    if not image.is_grid:
        raise ValueError("pooling needs a grid of visual tokens; an earlier reduction dropped single tokens")
    return image.height, image.width


def mean_of_windows(cells_VKD: Tensor, absent_VK: Tensor | None) -> Tensor:
    """Mean over the cells that are there."""
    if absent_VK is None:
        return cells_VKD.mean(dim=1)
    counts_V1 = (~absent_VK).sum(dim=1, keepdim=True)
    return cells_VKD.masked_fill(absent_VK[:, :, None], 0).sum(dim=1) / counts_V1


class DepthwiseConv(nn.Module):
    """Depthwise convolution over windows without overlap, no bias; starts as the mean (spec A.3, max pool)."""

    def __init__(self, hidden_size: int, kernel: Kernel) -> None:
        super().__init__()
        area = kernel[0] * kernel[1]
        self.weight = nn.Parameter(torch.full((area, hidden_size), 1 / area))

    def forward(self, cells_VKD: Tensor, absent_VK: Tensor | None) -> Tensor:
        """float[V, K, D] -> float[V, D]; `Method` admits whole windows only, so no cell is absent."""
        assert absent_VK is None
        return (cells_VKD * self.weight).sum(dim=1)
