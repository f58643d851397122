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
from dpn_model.packing import ImageSpan, contiguous_positions, find_image_spans, spans_of_grids
from dpn_model.positions import multimodal_positions

GRIDDED_BASES = ("qwen2_5_vl", "qwen2_vl")


class ImageSide(Protocol):
    """What a base says about its pictures. `grids` is what its processor calls `image_grid_thw`, where it has one."""

    def count(self, pixel_values: Tensor, grids: Tensor | None) -> int:
        """I: pictures in `pixel_values`."""

    def spans(self, image_rows: np.ndarray, lengths: Sequence[int], grids: Tensor | None) -> tuple[ImageSpan, ...]:
        """Where the pictures lie in a packed batch, given bool[T] of the placeholders' rows on the host.

        Raises:
            ValueError: placeholders that are not a whole number of the pictures' grids.
        """

    def encode(self, model: Any, pixel_values: Tensor, grids: Tensor | None) -> Tensor:
        """float[V, D]: projected tokens of all pictures, in reading order, each row-major."""

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pixels and grids of one empty picture, for batches without any."""

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> Tensor:
        """int64[T] or int64[T, 3]: rotary positions of a batch as it is first packed."""

    def fixed_grid(self) -> tuple[int, int]:
        """(height, width) in tokens of every picture.

        Raises:
            ValueError: every picture of this base has its own.
        """


class SquareImages:
    """Every picture is a square of `image_size` pixels and gives the same `grid` (LLaVA-1.5, LLaVA-HR)."""

    def __init__(self, image_size: int, grid: tuple[int, int]) -> None:
        self.image_size = image_size
        self.grid = grid

    def count(self, pixel_values: Tensor, grids: Tensor | None) -> int:
        """Pictures are stacked: float[I, 3, S, S].

        Raises:
            ValueError: another size; towers that accept one would give another number of tokens.
        """
        expected = (3, self.image_size, self.image_size)
        if tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(f"pixel_values have shape {tuple(pixel_values.shape)}; allowed: (images, *{expected})")
        return len(pixel_values)

    def spans(self, image_rows: np.ndarray, lengths: Sequence[int], grids: Tensor | None) -> tuple[ImageSpan, ...]:
        """See `packing.find_image_spans`."""
        return find_image_spans(image_rows, lengths, self.grid)

    def encode(self, model: Any, pixel_values: Tensor, grids: Tensor | None) -> Tensor:
        """float[I, 3, S, S] to float[V, D]."""
        return torch.cat(list(model.get_image_features(pixel_values, return_dict=True).pooler_output))

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """A grey square."""
        return like.new_zeros(1, 3, self.image_size, self.image_size), None

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> Tensor:
        """0..n-1 in every sample."""
        return torch.from_numpy(contiguous_positions(lengths))

    def fixed_grid(self) -> tuple[int, int]:
        """The one grid."""
        return self.grid


class GriddedImages:
    """Pictures of any shape as flat patches, each with its grid; multimodal RoPE (Qwen2-VL, Qwen2.5-VL).

    Args:
        vision_config: of the base: patch size, and how many patches of a side are merged into one token.
    """

    def __init__(self, vision_config: Any) -> None:
        self.merge = int(vision_config.spatial_merge_size)
        self.patch_values = (
            vision_config.in_channels * vision_config.temporal_patch_size * int(vision_config.patch_size) ** 2
        )

    def count(self, pixel_values: Tensor, grids: Tensor | None) -> int:
        """One grid per picture.

        Raises:
            ValueError: grids and patches differ in number.
        """
        if grids is None:
            return 0
        patches = int(grids.prod(dim=1).sum())
        if patches != len(pixel_values):
            raise ValueError(f"image_grid_thw counts {patches} patches, pixel_values hold {len(pixel_values)}")
        return len(grids)

    def spans(self, image_rows: np.ndarray, lengths: Sequence[int], grids: Tensor | None) -> tuple[ImageSpan, ...]:
        """See `packing.spans_of_grids`; a token covers `merge` x `merge` patches.

        Raises:
            ValueError: no grids, more than one frame, or placeholders that do not fit the grids.
        """
        if grids is None and image_rows.any():
            raise ValueError("input_ids hold image placeholders but there is no image_grid_thw, one row per image")
        shapes = [] if grids is None else grids.tolist()
        if any(frames != 1 for frames, _, _ in shapes):
            raise ValueError(f"image_grid_thw = {shapes}: only still images (time 1) can be packed")
        merged = [(height // self.merge, width // self.merge) for _, height, width in shapes]
        return spans_of_grids(image_rows, lengths, merged)

    def encode(self, model: Any, pixel_values: Tensor, grids: Tensor | None) -> Tensor:
        """float[patches, values] to float[V, D]."""
        return torch.cat(list(model.get_image_features(pixel_values, grids, return_dict=True).pooler_output))

    def blank(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """One token's worth of patches."""
        grids = torch.tensor([[1, self.merge, self.merge]], device=like.device)
        return like.new_zeros(self.merge**2, self.patch_values), grids

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> Tensor:
        """int64[T, 3]: time, row, column."""
        return multimodal_positions(lengths, images)

    def fixed_grid(self) -> tuple[int, int]:
        """There is none."""
        raise ValueError("this base has no fixed image grid; every image brings its own (image_grid_thw)")


def image_side_of(base: PreTrainedConfig) -> ImageSide:
    """The image side of a base's configuration.

    Raises:
        ValueError: a kind of base whose pictures nobody has described here.
    """
    kind = base.model_type
    if kind == "llava":
        vision = base.vision_config
        side = vision.image_size // vision.patch_size
        return SquareImages(vision.image_size, (side, side))
    if kind == "llava_hr":
        return SquareImages(base.image_size, llava_hr_grid(cast(LlavaHrConfig, base)))
    if kind in GRIDDED_BASES:
        return GriddedImages(base.vision_config)
    allowed = ", ".join(("llava", "llava_hr", *GRIDDED_BASES))
    raise ValueError(f"base_config.model_type = {kind!r}; allowed: {allowed}")


def insert_images(
    side: ImageSide,
    model: Any,
    hidden_TD: Tensor,
    is_image_T: Tensor,
    pixel_values: Tensor | None,
    grids: Tensor | None,
    always_encode: bool,
) -> Tensor:
    """Embeddings with the pictures' tokens in the place of their placeholders.

    Args:
        side: of the base.
        model: the base.
        hidden_TD: float[T, D], embeddings.
        is_image_T: bool[T], the placeholders.
        pixel_values: pictures as the base takes them, None without any.
        grids: see `ImageSide`.
        always_encode: a text-only batch still runs the tower once, times zero, so that in training every rank joins the
            same collectives (spec platform-conventions 3.1).
    """
    if pixel_values is not None and len(pixel_values):
        tokens_VD = side.encode(model, pixel_values, grids)
        return hidden_TD.masked_scatter(is_image_T[:, None], tokens_VD.to(hidden_TD.dtype))
    if not always_encode:
        return hidden_TD
    return hidden_TD + side.encode(model, *side.blank(hidden_TD)).sum() * 0.0
