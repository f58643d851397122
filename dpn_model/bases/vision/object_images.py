"""ChatRex's pictures: one square, one grid, and boxes on it that stand in the text with features of their own.

Shape letters: I images, V visual tokens of all images together, N boxes, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.chatrex.objects import box_features
from dpn_model.bases.vision.contract import ImageInputs, Pixels
from dpn_model.bases.vision.fixed_images import HighResolutionImages
from dpn_model.bases.vision.tower import same_size
from dpn_model.methods.probe import TowerPicture


class ObjectImages(HighResolutionImages):
    """`boxes` is float[N, 4]: (x1, y1, x2, y2) in pixels of the square input, in the order of their placeholders."""

    inputs: tuple[str, ...] = ("boxes",)
    has_objects = True

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """See `ImageSide`; with ConvNeXt's maps, which boxes are read from."""
        self.refuse(looks)
        pixels, tower = same_size(pixel_values), model.vision_tower
        maps = tower.slow_maps(pixels)
        features_IVC = tower.merged(pixels, maps[-1])
        return [
            TowerPicture(features_IVC[place], self.grid, maps=tuple(one[place] for one in maps))
            for place in range(len(pixels))
        ]

    def objects(self, model: Any, pictures: Sequence[TowerPicture], boxes: Sequence[Tensor]) -> Tensor:
        """See `ImageSide`. No box at all still runs the projector, so every rank joins (`contract.Part`)."""
        features_NC = torch.cat(
            [
                box_features(picture.maps, one.double().cpu().numpy(), self.image_size)
                for picture, one in zip(pictures, boxes, strict=True)
            ]
        )
        projected: Tensor = model.object_projector(features_NC.to(model.object_projector[0].weight.dtype))
        return projected
