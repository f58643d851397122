"""Pooling experts: max over windows with kernel = stride, floor mode (spec A.6). They have no weights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dpn_model.method import Kernel
from dpn_model.packing import ImageSpan
from dpn_model.reduction import ImageRows


@lru_cache(maxsize=4096)
def window_rows(height: int, width: int, kernel: Kernel) -> np.ndarray:
    """int64[V_out, area]: for every window of a row-major grid, the rows it covers, its first cell first."""
    kernel_h, kernel_w = kernel
    out_h, out_w = height // kernel_h, width // kernel_w
    corner = (np.arange(out_h)[:, None] * kernel_h * width + np.arange(out_w)[None, :] * kernel_w).reshape(-1, 1)
    inside = (np.arange(kernel_h)[:, None] * width + np.arange(kernel_w)[None, :]).reshape(1, -1)
    rows = corner + inside
    rows.setflags(write=False)
    return rows


def tokens_after(image: ImageSpan, kernel: Kernel) -> int:
    """Visual tokens an image would have after pooling; a method without a grid cannot be pooled.

    Raises:
        ValueError: the image's tokens no longer form a grid.
    """
    if not image.is_grid:
        raise ValueError("pooling needs a grid of visual tokens; an earlier reduction dropped single tokens")
    return (image.height // kernel[0]) * (image.width // kernel[1])


def pool_image(image: ImageSpan, kernel: Kernel) -> ImageRows:
    """Rows of one image after max pooling with `kernel`.

    Raises:
        ValueError: the grid is smaller than the kernel.
    """
    if tokens_after(image, kernel) == 0:
        raise ValueError(
            f"a {image.height}x{image.width} grid is too small for the {kernel[0]}x{kernel[1]} kernel; "
            "use smaller kernels or fewer sites"
        )
    windows = window_rows(image.height, image.width, kernel)
    return ImageRows(windows, image.height // kernel[0], image.width // kernel[1])
