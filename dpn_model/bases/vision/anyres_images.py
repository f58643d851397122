"""A thumbnail, and tiles joined to one larger grid whose rows end with a newline (LLaVA-NeXT, LLaVA-OneVision).

Shape letters: I images, N most tiles of an image, V visual tokens of all images together, D model width, S side in
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
    unpad_image,
)

from dpn_model.bases.vision.contract import NATIVE, ImageInputs, Pixels
from dpn_model.bases.vision.token_grids import class_tokens_kept
from dpn_model.bases.vision.tower import ClosedTower
from dpn_model.packing import Grid, ImageSpan, Loose, Piece, contiguous_positions


class AnyresImages(ClosedTower):
    """`image_sizes` int64[I, 2] are (height, width) in pixels before tiling.

    A picture is the thumbnail's grid, then the larger view's, cut to the picture's shape; rows of the latter end with
    a newline. A single tile is followed by one newline.

    Args:
        base: configuration of LLaVA-NeXT or LLaVA-OneVision.
    """

    inputs: tuple[str, ...] = ("image_sizes",)

    def __init__(self, base: Any) -> None:
        if class_tokens_kept(base):
            kind = base.vision_config.model_type
            raise ValueError(
                f"vision_feature_select_strategy = 'full'; allowed in {base.model_type} with {kind}: default"
            )
        self.base = base
        self.image_size = int(base.vision_config.image_size)
        self.side = self.image_size // int(base.vision_config.patch_size)

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
        """float[tiles, 3, S, S] each.

        Raises:
            ValueError: no sizes, sizes and pixels that differ in number, or too few tiles.
        """
        if "image_sizes" not in inputs:
            raise ValueError("pixel_values are given but there is no image_sizes; needed: (height, width) per image")
        counts = self._tiles(inputs)
        if len(counts) != len(pixel_values):
            raise ValueError(f"image_sizes holds {len(counts)} sizes, pixel_values {len(pixel_values)} images")
        tile = (3, self.image_size, self.image_size)
        for number, (image, count) in enumerate(zip(pixel_values, counts, strict=True)):
            if len(image) < count or tuple(image.shape[1:]) != tile:
                raise ValueError(
                    f"pixel_values[{number}] has shape {tuple(image.shape)}; allowed with image_sizes[{number}]: "
                    f"{(count, *tile)}"
                )
        return [image[:count] for image, count in zip(pixel_values, counts, strict=True)]

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """Thumbnail and larger view, or one tile and a newline."""
        tiles = self.pictures(pixel_values, inputs)
        thumbnail = Grid(self.side, self.side)
        return tuple(
            (thumbnail, self._large_view(size) if len(image) > 1 else Loose(1))
            for image, size in zip(tiles, inputs["image_sizes"].tolist(), strict=True)
        )

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[V, D]."""
        tiles = torch.cat(list(self.pictures(pixel_values, inputs)))
        features = model.get_image_features(tiles, **inputs, return_dict=True)
        return torch.cat(list(features.pooler_output))

    def tower_runs(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[int, ...], ...]:
        """One for each tile."""
        return tuple((NATIVE,) * len(image) for image in self.pictures(pixel_values, inputs))

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """Thumbnail and tiles of a square."""
        sizes = torch.tensor([[self.image_size, self.image_size]], device=like.device)
        tiles = self._tiles({"image_sizes": sizes})[0]
        return like.new_zeros(1, tiles, 3, self.image_size, self.image_size), {"image_sizes": sizes}

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """0..n-1 in every sample."""
        return contiguous_positions(lengths)

    def fixed_grid(self) -> tuple[int, int]:
        """There is none."""
        raise ValueError("this base has no fixed image grid; every image brings its own (image_sizes)")

    def _tiles(self, inputs: ImageInputs) -> list[int]:
        """Tiles of every picture, the thumbnail included."""
        points = self.base.image_grid_pinpoints
        return [image_size_to_num_patches(size, points, self.image_size) for size in inputs["image_sizes"].tolist()]

    def _large_view(self, size: Sequence[int]) -> Grid:
        rows, columns = get_anyres_image_grid_shape(size, self.base.image_grid_pinpoints, self.image_size)
        joined = torch.empty(1, rows * self.side, columns * self.side, device="meta")
        height, width = unpad_image(joined, size).shape[1:]
        return Grid(*self._shrunk(height, width), row_end=1)

    def _shrunk(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class OneVisionImages(AnyresImages):
    """LLaVA-OneVision: a large view is made smaller, and pictures of a sample with several are not tiled."""

    inputs: tuple[str, ...] = ("image_sizes", "batch_num_images")

    def __init__(self, base: Any) -> None:
        super().__init__(base)
        #: views of more than so many tiles are resampled (`anyres_max_9`)
        self.most_tiles = int(base.vision_aspect_ratio.removeprefix("anyres_max_"))

    def _tiles(self, inputs: ImageInputs) -> list[int]:
        counts = super()._tiles(inputs)
        if "batch_num_images" not in inputs:
            return counts
        alone = [number == 1 for number in inputs["batch_num_images"].tolist() for _ in range(number)]
        return [count if is_alone else 1 for count, is_alone in zip(counts, alone, strict=True)]

    def _shrunk(self, height: int, width: int) -> tuple[int, int]:
        ratio = math.sqrt(height * width / (self.most_tiles * self.side**2))
        return (int(height // ratio), int(width // ratio)) if ratio > 1.1 else (height, width)
