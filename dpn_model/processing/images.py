"""Image preparation of LLaVA-1.5 (spec base-models B.2): pad to square, resize, scale, normalise."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
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


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """An RGB picture padded to a square and resized (bicubic) to `size`; one of that size stays as it is."""
    square = pad_to_square(image)
    if square.size != (size, size):
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return square


def prepare_image(image: Image.Image, size: int) -> Tensor:
    """uint8[3, size, size]: RGB, padded to a square and resized (bicubic). Normalised later, on the device."""
    square = fit_square(image.convert("RGB"), size)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def normalise(pixels: Tensor) -> Tensor:
    """uint8[I, 3, H, W] -> float32[I, 3, H, W] with CLIP's mean and deviation."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=pixels.device)[:, None, None]
    return (pixels.float() / 255 - mean) / std
