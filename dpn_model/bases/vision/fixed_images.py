"""Pictures, or tiles of them, of one size and one grid: LLaVA-HR, InternVL, Idefics3 and SmolVLM.

Shape letters: I images, V visual tokens of all images together, D model width, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.bases.vision.contract import NATIVE, ImageInputs, Pixels
from dpn_model.bases.vision.token_grids import idefics_tile, internvl_tile
from dpn_model.bases.vision.tower import ClosedTower, same_size
from dpn_model.methods.probe import TowerPicture
from dpn_model.packing import Grid, ImageSpan, Piece, contiguous_positions


class FixedImages(ClosedTower):
    """Every picture (LLaVA-HR) or tile (InternVL) is a square of `image_size` pixels and gives the same `grid`."""

    inputs: tuple[str, ...] = ()

    def __init__(self, image_size: int, grid: tuple[int, int]) -> None:
        self.image_size = image_size
        self.grid = grid

    @classmethod
    def of_internvl(cls, base: Any) -> FixedImages:
        """InternVL's tiles. Raises ValueError as `internvl_tile`."""
        size, side = internvl_tile(base)
        return cls(size, (side, side))

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
        """float[3, S, S] each."""
        for number, image in enumerate(pixel_values):
            if tuple(image.shape) != (3, self.image_size, self.image_size):
                raise ValueError(
                    f"pixel_values[{number}] has shape {tuple(image.shape)}; allowed: (3, {self.image_size}, "
                    f"{self.image_size})"
                )
        return tuple(pixel_values)

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """The one grid, for each picture."""
        return ((Grid(*self.grid),),) * len(self.pictures(pixel_values, inputs))

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[I, 3, S, S] to float[V, D]."""
        stacked = pixel_values if isinstance(pixel_values, Tensor) else torch.stack(list(pixel_values))
        return torch.cat(list(model.get_image_features(stacked, return_dict=True).pooler_output))

    def tower_runs(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[int, ...], ...]:
        """One for each picture, all of one size."""
        return ((NATIVE,),) * len(self.pictures(pixel_values, inputs))

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """A grey square."""
        return like.new_zeros(1, 3, self.image_size, self.image_size), {}

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """0..n-1 in every sample."""
        return contiguous_positions(lengths)

    def fixed_grid(self) -> tuple[int, int]:
        """The one grid."""
        return self.grid


class HighResolutionImages(FixedImages):
    """Of two towers (LLaVA-HR): what both made together can be had in front of the projector."""

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """See `ImageSide`; there is nothing else to look at."""
        self.refuse(looks)
        features_IVC = model.vision_tower(same_size(pixel_values))
        return [TowerPicture(features_VC, self.grid) for features_VC in features_IVC]

    @staticmethod
    def refuse(looks: Collection[str]) -> None:
        """Raises ValueError where a method looks at more than features."""
        if looks:
            raise ValueError(
                f"this method looks at {', '.join(sorted(looks))} of the tower, which shows features alone here"
            )

    def project(self, model: Any, features_VC: Tensor) -> Tensor:
        """See `ImageSide`."""
        tokens: Tensor = model.multi_modal_projector(features_VC[None])[0]
        return tokens


class IdeficsTiles(FixedImages):
    """Idefics3 and SmolVLM: float[B, N, 3, S, S], where a sample with fewer tiles than N is filled with zeros.

    The tokens between tiles are words of the text. `pixel_attention_mask`, [B, N, S, S], leaves out a tile's border.
    """

    inputs: tuple[str, ...] = ("pixel_attention_mask",)

    def __init__(self, base: Any) -> None:
        size, side = idefics_tile(base)
        super().__init__(size, (side, side))

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
        """float[3, S, S] of every tile that is not filling."""
        tiles = pixel_values.flatten(0, -4) if isinstance(pixel_values, Tensor) else torch.stack(list(pixel_values))
        return super().pictures(tiles[self._is_real(tiles)], inputs)

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[V, D]; tiles go through the tower as they are given, which leaves out the filling itself."""
        tiles = pixel_values if isinstance(pixel_values, Tensor) else torch.stack(list(pixel_values))
        if tiles.ndim == 4:
            tiles = tiles[None]
        features = model.get_image_features(tiles, inputs.get("pixel_attention_mask"), return_dict=True).pooler_output
        return torch.cat([tile.flatten(0, -2) for tile in features])

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """A white tile: one of zeros is filling."""
        return like.new_ones(1, 1, 3, self.image_size, self.image_size), {}

    def _is_real(self, tiles: Tensor) -> Tensor:
        return (tiles != 0).flatten(1).any(dim=1)
