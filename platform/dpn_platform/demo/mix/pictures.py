"""Cheap images with the sizes of real photographs: a gradient with noise, whose amplitude sets the size in bytes."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

JPEG_QUALITY = 90
_TILE_SIDE = 2048
#: measured at quality 90 on a gradient: bytes per pixel of the file, and the noise's standard deviation that gives them
_BYTES_PER_PIXEL = (0.11, 0.19, 0.31, 0.40, 0.51, 0.60, 0.68, 0.76)
_AMPLITUDES = (1.8, 3.6, 6.9, 10.9, 20.0, 32.0, 44.0, 62.0)


def draw_photo(rng: np.random.Generator, size: tuple[int, int], bytes_per_pixel: float) -> Image.Image:
    """An RGB image whose JPEG has about that many bytes; sides scatter by a tenth, one in four is turned upright."""
    width, height = (max(8, round(side * float(rng.uniform(0.9, 1.1)))) for side in size)
    if rng.random() < 0.25:
        width, height = height, width
    amplitude = np.interp(bytes_per_pixel, _BYTES_PER_PIXEL, _AMPLITUDES)
    left, top = (int(rng.integers(_TILE_SIDE - side)) for side in (width, height))
    noise = _noise()[top : top + height, left : left + width] * np.float32(amplitude)
    corners = rng.uniform(50, 205, (2, 2, 3)).astype(np.float32)
    across, down = np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)
    rows = corners[0] * (1 - down[:, None, None]) + corners[1] * down[:, None, None]
    pixels = rows[:, :1] * (1 - across[None, :, None]) + rows[:, 1:] * across[None, :, None]
    return Image.fromarray(np.clip(pixels + noise[..., None], 0, 255).astype(np.uint8))


def encode(image: Image.Image, format_: str = "JPEG", **options: object) -> bytes:
    """The encoded file."""
    buffer = io.BytesIO()
    quality = {"quality": JPEG_QUALITY} if format_ in ("JPEG", "WEBP") else {}
    image.save(buffer, format_, **{**quality, **options})
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _noise() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((_TILE_SIDE, _TILE_SIDE), dtype=np.float32)
