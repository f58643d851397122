"""Pictures of any shape as flat patches, each with its own grid, under multimodal RoPE (Qwen2-VL, Qwen2.5-VL).

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan
from dpn_model.positions import multimodal_positions

Grid = tuple[int, int]


class GriddedImages:
    """`thw` is int64[I, 3], (time, height, width) in patches; `merge` x `merge` patches make a visual token.

    Args:
        vision_config: of the base.
    """

    def __init__(self, vision_config: Any) -> None:
        self.merge = int(vision_config.spatial_merge_size)
        self.patch_values = (
            vision_config.in_channels * vision_config.temporal_patch_size * int(vision_config.patch_size) ** 2
        )

    def pictures(self, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> Sequence[Tensor]:
        """float[patches, values] each.

        Raises:
            ValueError: no grids, more than one frame, or grids and patches that differ in number.
        """
        if thw is None:
            raise ValueError("pixel_values are given but there is no image_grid_thw; needed: one row per image")
        if bool((thw[:, 0] != 1).any()):
            raise ValueError(f"image_grid_thw = {thw.tolist()}: only still images (time 1) can be packed")
        counts = thw.prod(dim=1).tolist()
        if sum(counts) != len(pixel_values):
            raise ValueError(f"image_grid_thw counts {sum(counts)} patches, pixel_values hold {len(pixel_values)}")
        return self._flat(pixel_values).split(counts)

    def grids(self, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> tuple[Grid, ...]:
        """In visual tokens."""
        self.pictures(pixel_values, thw)
        assert thw is not None
        return tuple((height // self.merge, width // self.merge) for _, height, width in thw.tolist())

    def encode(self, model: Any, pixel_values: Tensor | Sequence[Tensor], thw: Tensor | None) -> Tensor:
        """float[patches, values] to float[V, D]."""
        features = model.get_image_features(self._flat(pixel_values), thw, return_dict=True)
        return torch.cat(list(features.pooler_output))

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """One token's worth of patches."""
        thw = torch.tensor([[1, self.merge, self.merge]], device=like.device)
        return like.new_zeros(self.merge**2, self.patch_values), thw

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """int64[T, 3]: time, row, column."""
        return multimodal_positions(lengths, images)

    def fixed_grid(self) -> Grid:
        """There is none."""
        raise ValueError("this base has no fixed image grid; every image brings its own (image_grid_thw)")

    def _flat(self, pixel_values: Tensor | Sequence[Tensor]) -> Tensor:
        return pixel_values if isinstance(pixel_values, Tensor) else torch.cat(list(pixel_values))
