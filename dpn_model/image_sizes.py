"""Images of any size through a CLIP-style tower: their grids of visual tokens, and encoding size by size.

Shape letters: I images, V visual tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

Grid = tuple[int, int]


def image_grids(
    pixel_values: Tensor | Sequence[Tensor] | None, base: PreTrainedConfig, native_grid: Grid
) -> tuple[Grid, ...]:
    """Visual tokens of every image, as (height, width): one per patch, `native_grid` at the tower's own size.

    Args:
        pixel_values: float[I, 3, height, width], or float[3, height, width] per image.
        base: configuration with `vision_config.image_size` and `.patch_size`.
        native_grid: grid of an image of `image_size`.

    Raises:
        ValueError: an image smaller than a patch.
    """
    if pixel_values is None:
        return ()
    patch = base.vision_config.patch_size
    grids = []
    for number, image in enumerate(pixel_values):
        height, width = image.shape[-2:]
        if min(height, width) < patch:
            raise ValueError(f"pixel_values[{number}] is {height}x{width} pixels; allowed: at least {patch} each way")
        grids.append(native_grid if _is_native(image, base) else (height // patch, width // patch))
    return tuple(grids)


def encode_by_size(model: Any, pixel_values: Tensor | Sequence[Tensor], base: PreTrainedConfig) -> Tensor:
    """Projected features of all images in order, float[sum of V, D]; images of one size share a call of the tower."""
    if isinstance(pixel_values, Tensor):
        return torch.cat(_encode(model, pixel_values, base))
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(pixel_values):
        by_size.setdefault(tuple(image.shape), []).append(number)
    features: list[Tensor] = [torch.empty(0)] * len(pixel_values)
    for numbers in by_size.values():
        encoded = _encode(model, torch.stack([pixel_values[number] for number in numbers]), base)
        for number, feature in zip(numbers, encoded, strict=True):
            features[number] = feature
    return torch.cat(features)


def _encode(model: Any, pixel_values: Tensor, base: PreTrainedConfig) -> list[Tensor]:
    # Position embeddings are interpolated to another size, as transformers' towers do on request.
    resized = {} if _is_native(pixel_values, base) else {"interpolate_pos_encoding": True}
    return list(model.get_image_features(pixel_values, return_dict=True, **resized).pooler_output)


def _is_native(images: Tensor, base: PreTrainedConfig) -> bool:
    size = base.vision_config.image_size
    return tuple(images.shape[-2:]) == (size, size)
