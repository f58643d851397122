"""The one interface between the packed model and whatever a base does with pictures: grids, features, positions.

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from dpn_model.bases.llava_hr import image_grid as llava_hr_grid
from dpn_model.bases.llava_hr_config import LlavaHrConfig
from dpn_model.packing import ImageSpan, contiguous_positions
from dpn_model.vision.clip_images import ClipImages, Grid
from dpn_model.vision.gridded_images import GriddedImages

GRIDDED_BASES = ("qwen2_5_vl", "qwen2_vl")

#: pictures as a base takes them: stacked, one tensor each, or flat patches with `image_grid_thw`
Pixels = Tensor | Sequence[Tensor]


class ImageSide(Protocol):
    """What a base says about its pictures. `thw` is what its processor calls `image_grid_thw`, where it has one."""

    def pictures(self, pixel_values: Pixels, thw: Tensor | None) -> Sequence[Tensor]:
        """The pixels of each picture, in reading order.

        Raises:
            ValueError: pixels of a size, or of a number, that the base cannot take.
        """

    def grids(self, pixel_values: Pixels, thw: Tensor | None) -> tuple[Grid, ...]:
        """Visual tokens of each picture as (height, width). Raises as `pictures`."""

    def encode(self, model: Any, pixel_values: Pixels, thw: Tensor | None) -> Tensor:
        """float[V, D]: projected tokens of all pictures, in reading order, each row-major."""

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pixels and `thw` of one empty picture, for batches without any."""

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """int64[T] or int64[T, 3]: rotary positions of a batch as it is first packed."""

    def fixed_grid(self) -> Grid:
        """(height, width) in tokens of every picture of the base's own size.

        Raises:
            ValueError: every picture of this base has its own.
        """


class FixedImages:
    """Every picture is a square of `image_size` pixels and gives the same `grid` (LLaVA-HR)."""

    def __init__(self, image_size: int, grid: Grid) -> None:
        self.image_size = image_size
        self.grid = grid

    def pictures(self, pixel_values: Pixels, thw: Tensor | None) -> Sequence[Tensor]:
        """float[3, S, S] each."""
        for number, image in enumerate(pixel_values):
            if tuple(image.shape) != (3, self.image_size, self.image_size):
                raise ValueError(
                    f"pixel_values[{number}] has shape {tuple(image.shape)}; allowed: (3, {self.image_size}, "
                    f"{self.image_size})"
                )
        return tuple(pixel_values)

    def grids(self, pixel_values: Pixels, thw: Tensor | None) -> tuple[Grid, ...]:
        """The one grid, for each picture."""
        return (self.grid,) * len(self.pictures(pixel_values, thw))

    def encode(self, model: Any, pixel_values: Pixels, thw: Tensor | None) -> Tensor:
        """float[I, 3, S, S] to float[V, D]."""
        stacked = pixel_values if isinstance(pixel_values, Tensor) else torch.stack(list(pixel_values))
        return torch.cat(list(model.get_image_features(stacked, return_dict=True).pooler_output))

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """A grey square."""
        return like.new_zeros(1, 3, self.image_size, self.image_size), None

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """0..n-1 in every sample."""
        return contiguous_positions(lengths)

    def fixed_grid(self) -> Grid:
        """The one grid."""
        return self.grid


def image_side_of(base: PreTrainedConfig) -> ImageSide:
    """The image side of a base's configuration.

    Raises:
        ValueError: a kind of base whose pictures nobody has described here.
    """
    kind = base.model_type
    if kind == "llava":
        return ClipImages(base.vision_config)
    if kind == "llava_hr":
        return FixedImages(base.image_size, llava_hr_grid(cast(LlavaHrConfig, base)))
    if kind in GRIDDED_BASES:
        return GriddedImages(base.vision_config)
    allowed = ", ".join(("llava", "llava_hr", *GRIDDED_BASES))
    raise ValueError(f"base_config.model_type = {kind!r}; allowed: {allowed}")
