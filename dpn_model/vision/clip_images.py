"""Images of any size through a CLIP-style tower (LLaVA-1.5): their grids of visual tokens, and encoding size by size.

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan, contiguous_positions

Grid = tuple[int, int]


class ClipImages:
    """One visual token per patch; `vision_config` names the size the tower was trained at, and the patch's."""

    def __init__(self, vision_config: Any) -> None:
        self.image_size = int(vision_config.image_size)
        self.patch_size = int(vision_config.patch_size)

    def pictures(self, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> Sequence[Tensor]:
        """float[3, height, width] each, of any size.

        Raises:
            ValueError: an image smaller than a patch.
        """
        for number, image in enumerate(pixel_values):
            height, width = image.shape[-2:]
            if min(height, width) < self.patch_size:
                raise ValueError(
                    f"pixel_values[{number}] is {height}x{width} pixels; allowed: at least {self.patch_size} each way"
                )
        return tuple(pixel_values)

    def grids(self, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> tuple[Grid, ...]:
        """Whole patches of each image."""
        patch = self.patch_size
        return tuple((image.shape[-2] // patch, image.shape[-1] // patch) for image in self.pictures(pixel_values, thw))

    def encode(self, model: Any, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> Tensor:
        """float[V, D]; images of one size share a call of the tower."""
        if isinstance(pixel_values, Tensor):
            return torch.cat(self._encode(model, pixel_values))
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(pixel_values):
            by_size.setdefault(tuple(image.shape), []).append(number)
        features: list[Tensor] = [torch.empty(0)] * len(pixel_values)
        for numbers in by_size.values():
            encoded = self._encode(model, torch.stack([pixel_values[number] for number in numbers]))
            for number, feature in zip(numbers, encoded, strict=True):
                features[number] = feature
        return torch.cat(features)

    def _encode(self, model: Any, images: Tensor) -> list[Tensor]:
        # Position embeddings are interpolated to another size, as transformers' towers do on request.
        is_native = tuple(images.shape[-2:]) == (self.image_size, self.image_size)
        resized = {} if is_native else {"interpolate_pos_encoding": True}
        return list(model.get_image_features(images, return_dict=True, **resized).pooler_output)

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """A grey square of the tower's own size."""
        return like.new_zeros(1, 3, self.image_size, self.image_size), None

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """0..n-1 in every sample."""
        return contiguous_positions(lengths)

    def fixed_grid(self) -> Grid:
        """Of an image of the tower's own size."""
        side = self.image_size // self.patch_size
        return side, side
