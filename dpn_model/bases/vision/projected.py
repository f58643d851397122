"""Pictures through a method's own projector, whose grid placeholders and positions follow.

Shape letters: I images, V visual tokens of all images together, C width of the tower, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, ImageSide, Pixels
from dpn_model.methods.contract import Projector
from dpn_model.methods.probe import TowerPicture, level
from dpn_model.packing import Grid, Piece


class ProjectedImages:
    """An image side behind another projector; pictures have one size, the tower's own.

    Attributes:
        patches: (height, width) of a picture in front of the projector.
    """

    def __init__(self, inner: ImageSide, projector: Projector) -> None:
        self.inner = inner
        self._levels = projector.levels
        self.patches = inner.fixed_grid()
        self._grid = projector.grid(*self.patches)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not yet set, as while it is copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """The projector's grid, for each picture.

        Raises:
            ValueError: a picture of another size than the tower's own.
        """
        found = self.inner.pieces(pixel_values, inputs)
        for number, pieces in enumerate(found):
            if [(piece.height, piece.width) for piece in pieces if isinstance(piece, Grid)] != [self.patches]:
                raise ValueError(
                    f"pixel_values[{number}]: this method's projector takes pictures of the tower's own size"
                )
        return ((Grid(*self._grid),),) * len(found)

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[V, D]."""
        pictures = self.tower(model, pixel_values, inputs, ())
        return self.project(model, torch.cat([picture.features_PC for picture in pictures]))

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """The base's, with the projector's levels side by side as features."""
        own = [level(index) for index in self._levels]
        pictures = self.inner.tower(model, pixel_values, inputs, {*looks, *own})
        if not own:
            return pictures
        return [
            replace(one, features_PC=torch.cat([one.looked[look][one.class_tokens :] for look in own], dim=-1))
            for one in pictures
        ]

    def project(self, model: Any, features_VC: Tensor) -> Tensor:
        """float[V, C], whole pictures end to end, to float[V after, D]."""
        features_IPC = features_VC.unflatten(0, (-1, math.prod(self.patches)))
        tokens: Tensor = model.multi_modal_projector(features_IPC, *self.patches)
        return tokens.flatten(0, 1)

    def fixed_grid(self) -> tuple[int, int]:
        """The projector's."""
        return self._grid
