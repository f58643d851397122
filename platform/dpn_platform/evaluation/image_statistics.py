"""How much there is in a picture: the figures that routes are held against. NumPy and Pillow only."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from dpn_platform.benchmarks.outcomes import IMAGE_COLUMNS

#: pictures are shrunk to this side first, near what the vision tower sees: sizes become comparable
_SIDE = 224
#: a grey level changes by this share of the full range from one pixel to the next but one
_EDGE = 0.1


def image_statistics(image: Image.Image | None) -> dict[str, Any]:
    """Size in pixels, edge density and entropy of a picture.

    Returns:
        `image_width`, `image_height`; `edge_density`: share of pixels whose grey gradient exceeds a tenth of the range,
        0 to 1; `image_entropy`: of the grey levels, in bits, 0 to 8. All None without an image.
    """
    if image is None:
        return dict.fromkeys(name for name, _ in IMAGE_COLUMNS)
    grey = image.convert("L")
    grey.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    levels = np.asarray(grey)
    return {
        "image_width": image.width,
        "image_height": image.height,
        "edge_density": _edge_density(levels.astype(np.float64) / 255.0),
        "image_entropy": _entropy(np.bincount(levels.ravel(), minlength=256)),
    }


def _edge_density(grey: np.ndarray) -> float:
    if min(grey.shape) < 3:
        return 0.0
    down, across = grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]
    return float((np.hypot(down, across) > _EDGE).mean())


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # never -0.0
