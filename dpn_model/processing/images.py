"""Image preparation of LLaVA (spec base-models B.2): a square by padding or by cropping, scaled and normalised."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
ASPECT_RATIOS = ("pad", "crop")
PAD_COLOUR = (122, 116, 104)  # int(255 * CLIP mean)


def pad_to_square(image: Image.Image) -> Image.Image:
    """The picture centred on a square of its longer side, filled with CLIP's mean colour."""
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    square = Image.new("RGB", (side, side), PAD_COLOUR)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def crop_to_square(image: Image.Image, size: int) -> Image.Image:
    """The shorter side resized to `size` (bicubic), then the centre: what stage 1 and CLIP's own processor do."""
    width, height = image.size
    short = min(width, height)
    width, height = int(size * width / short), int(size * height / short)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


def fit_square(image: Image.Image, size: int, aspect_ratio: str = "pad") -> Image.Image:
    """An RGB picture made square and resized (bicubic) to `size`; a padded one of that size stays as it is.

    Args:
        image: RGB, of any size.
        size: side of the square in pixels.
        aspect_ratio: "pad" to a square of the longer side, or "crop" the centre.

    Raises:
        ValueError: another `aspect_ratio`.
    """
    if aspect_ratio not in ASPECT_RATIOS:
        raise ValueError(f"aspect_ratio = {aspect_ratio!r}; allowed: {', '.join(ASPECT_RATIOS)}")
    square = pad_to_square(image) if aspect_ratio == "pad" else crop_to_square(image, size)
    if square.size != (size, size):
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return square


def prepare_image(image: Image.Image, size: int, aspect_ratio: str = "pad") -> Tensor:
    """uint8[3, size, size]: RGB, see `fit_square`. Normalised later, on the device."""
    square = fit_square(image.convert("RGB"), size, aspect_ratio)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def normalise(pixels: Tensor) -> Tensor:
    """uint8[I, 3, H, W] -> float32[I, 3, H, W] with CLIP's mean and deviation."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=pixels.device)[:, None, None]
    return (pixels.float() / 255 - mean) / std
