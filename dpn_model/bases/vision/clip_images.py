"""Images of any size through a CLIP-style tower (LLaVA-1.5): their grids of visual tokens, and encoding size by size.

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.bases.towers.clip_shape import CLASS_TOKENS
from dpn_model.bases.vision.contract import NATIVE, ImageInputs, Pixels
from dpn_model.bases.vision.token_grids import class_tokens_kept
from dpn_model.bases.vision.tower import WithoutObjects, run_tower, same_size
from dpn_model.methods.probe import TowerPicture
from dpn_model.packing import Grid, ImageSpan, Loose, Piece, contiguous_positions


class ClipImages(WithoutObjects):
    """One visual token per patch; `vision_config` names the size the tower was trained at, and the patch's.

    Args:
        base: configuration with `vision_config` and `vision_feature_select_strategy`.

    Raises:
        ValueError: a tower, or a choice of its features, that leaves no grid of patches.
    """

    inputs: tuple[str, ...] = ()
    shows_layers = True

    def __init__(self, base: Any) -> None:
        self.image_size = int(base.vision_config.image_size)
        self.patch_size = int(base.vision_config.patch_size)
        self.class_tokens = class_tokens_kept(base)
        self.tower_class_tokens = CLASS_TOKENS[base.vision_config.model_type]

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
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

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """Whole patches of each image, behind its class token where the base keeps it."""
        class_tokens: tuple[Piece, ...] = (Loose(self.class_tokens),) if self.class_tokens else ()
        return tuple((*class_tokens, self._grid(image)) for image in self.pictures(pixel_values, inputs))

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
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

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """See `ImageSide`; pictures of the tower's own size."""
        images = same_size(pixel_values)
        if not self._is_native(images):
            height, width = images.shape[-2:]
            raise ValueError(
                f"pixel_values are {height}x{width}; this method takes pictures of the tower's own size, "
                f"{self.image_size}x{self.image_size}"
            )
        if self.class_tokens:
            raise ValueError("this base feeds the class token to its decoder; this method takes patches alone")
        layer = model.config.vision_feature_layer
        return run_tower(model.vision_tower, images, layer, self.tower_class_tokens, looks)

    def project(self, model: Any, features_VC: Tensor) -> Tensor:
        """See `ImageSide`."""
        tokens: Tensor = model.multi_modal_projector(features_VC[None])[0]
        return tokens

    def _encode(self, model: Any, images: Tensor) -> list[Tensor]:
        # Position embeddings are interpolated to another size, as transformers' towers do on request.
        resized = {} if self._is_native(images) else {"interpolate_pos_encoding": True}
        return list(model.get_image_features(images, return_dict=True, **resized).pooler_output)

    def _is_native(self, image: Tensor) -> bool:
        return tuple(image.shape[-2:]) == (self.image_size, self.image_size)

    def _grid(self, image: Tensor) -> Grid:
        return Grid(image.shape[-2] // self.patch_size, image.shape[-1] // self.patch_size)

    def tower_runs(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[int, ...], ...]:
        """One for each image."""
        return tuple(
            (NATIVE if self._is_native(image) else self._grid(image).num_tokens,)
            for image in self.pictures(pixel_values, inputs)
        )

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """A grey square of the tower's own size."""
        return like.new_zeros(1, 3, self.image_size, self.image_size), {}

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """0..n-1 in every sample."""
        return contiguous_positions(lengths)

    def fixed_grid(self) -> tuple[int, int]:
        """Of an image of the tower's own size."""
        side = self.image_size // self.patch_size
        return side, side
