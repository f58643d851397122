"""Pictures of any shape as flat patches, each with its own grid, under multimodal RoPE (Qwen-VL from Qwen2-VL on).

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, Pixels
from dpn_model.bases.vision.tower import ClosedTower
from dpn_model.packing import Grid, ImageSpan, Piece
from dpn_model.positions import multimodal_positions


class GriddedImages(ClosedTower):
    """`image_grid_thw` is int64[I, 3], (time, height, width) in patches; `merge` x `merge` patches make a visual token.

    Args:
        base: configuration with `vision_config`.
    """

    #: `mm_token_type_ids` says where pictures are, which the ids say too
    inputs: tuple[str, ...] = ("image_grid_thw", "mm_token_type_ids")

    def __init__(self, base: Any) -> None:
        vision_config = base.vision_config
        self.merge = int(vision_config.spatial_merge_size)
        self.patch_values = (
            vision_config.in_channels * vision_config.temporal_patch_size * int(vision_config.patch_size) ** 2
        )

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
        """float[patches, values] each.

        Raises:
            ValueError: no grids, more than one frame, or grids and patches that differ in number.
        """
        thw = inputs.get("image_grid_thw")
        if thw is None:
            raise ValueError("pixel_values are given but there is no image_grid_thw; needed: one row per image")
        if bool((thw[:, 0] != 1).any()):
            raise ValueError(f"image_grid_thw = {thw.tolist()}: only still images (time 1) can be packed")
        counts = thw.prod(dim=1).tolist()
        if sum(counts) != len(pixel_values):
            raise ValueError(f"image_grid_thw counts {sum(counts)} patches, pixel_values hold {len(pixel_values)}")
        return self._flat(pixel_values).split(counts)

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """In visual tokens."""
        self.pictures(pixel_values, inputs)
        sizes = inputs["image_grid_thw"].tolist()
        return tuple((Grid(height // self.merge, width // self.merge),) for _, height, width in sizes)

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[patches, values] to float[V, D]."""
        features = model.get_image_features(self._flat(pixel_values), inputs["image_grid_thw"], return_dict=True)
        return self._joined(features)

    def _joined(self, features: Any) -> Tensor:
        return torch.cat(list(features.pooler_output))

    def tower_runs(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[int, ...], ...]:
        """One for each image."""
        return tuple((len(patches),) for patches in self.pictures(pixel_values, inputs))

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """One token's worth of patches."""
        thw = torch.tensor([[1, self.merge, self.merge]], device=like.device)
        return like.new_zeros(self.merge**2, self.patch_values), {"image_grid_thw": thw}

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """int64[T, 3]: time, row, column."""
        return multimodal_positions(lengths, images)

    def fixed_grid(self) -> tuple[int, int]:
        """There is none."""
        raise ValueError("this base has no fixed image grid; every image brings its own (image_grid_thw)")

    def _flat(self, pixel_values: Pixels) -> Tensor:
        return pixel_values if isinstance(pixel_values, Tensor) else torch.cat(list(pixel_values))


class LayeredImages(GriddedImages):
    """Qwen3-VL: features of several of the tower's layers; the first decoder layers add one each (DeepStack)."""

    def _joined(self, features: Any) -> Tensor:
        # transformers before 5.24 does not split the later levels by picture.
        levels = [
            level if isinstance(level, Tensor) else torch.cat(list(level)) for level in features.deepstack_features
        ]
        return torch.cat([super()._joined(features), *levels], dim=1)
