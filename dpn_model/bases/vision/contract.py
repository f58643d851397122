"""The one interface between the packed model and whatever a base does with pictures: pieces, features, positions.

Shape letters: I images, V visual tokens of all images together, T packed tokens, D model width, K layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from dpn_model.methods.probe import TowerPicture
from dpn_model.packing import ImageSpan, Piece

#: pictures as a base takes them: stacked, one tensor each, or flat patches with `image_grid_thw`
Pixels = Tensor | Sequence[Tensor]
#: what a base's processor gives beside `pixel_values`, by name
ImageInputs = Mapping[str, Tensor]
#: a run of the tower over a picture of its own size (`ImageSide.tower_runs`)
NATIVE = 0


class ImageSide(Protocol):
    """What a base says about its pictures. A tile that stands in the text as a picture of its own counts as one."""

    #: names of what `forward` takes beside `pixel_values`
    inputs: tuple[str, ...]
    #: whether parts may look at the tower's layers, levels and pixels (`methods.probe`)
    shows_layers: bool
    #: whether pictures come with boxes, each a row of the text with features of its own (`objects`)
    has_objects: bool

    def pictures(self, pixel_values: Pixels, inputs: ImageInputs) -> Sequence[Tensor]:
        """The pixels of each picture, in reading order.

        Raises:
            ValueError: pixels of a size, or of a number, that the base cannot take.
        """

    def pieces(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[Piece, ...], ...]:
        """What each picture's visual tokens form: one grid, or several, with single tokens between. Raises as above."""

    def encode(self, model: Any, pixel_values: Pixels, inputs: ImageInputs) -> Tensor:
        """float[V, D]: projected tokens of all pictures, in reading order, each grid row-major.

        Or float[V, (1 + K) * D]: behind a token's features, side by side, what the layers 1 to K add to it.
        """

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """What the tower made of each picture, in front of the projector, and what parts look at (`methods.probe`).

        Raises:
            ValueError: a base, or pictures, of which this is not to be had.
        """

    def project(self, model: Any, features_VC: Tensor) -> Tensor:
        """float[V, C] of `TowerPicture` to float[V, D], through the base's projector. Raises as `tower`."""

    def objects(self, model: Any, pictures: Sequence[TowerPicture], boxes: Sequence[Tensor]) -> Tensor:
        """float[N, D]: one row for each box on each picture, in reading order; for bases that have them.

        Args:
            model: the base.
            pictures: what the tower made of each.
            boxes: float[n, 4] of each picture, (x1, y1, x2, y2) in pixels of the tower's input.
        """

    def tower_runs(self, pixel_values: Pixels, inputs: ImageInputs) -> tuple[tuple[int, ...], ...]:
        """For each picture, the patches of every run of the tower; `NATIVE` for pixels of the tower's own size."""

    def blank(self, like: Tensor) -> tuple[Tensor, ImageInputs]:
        """Pixels and inputs of one empty picture, for batches without any."""

    def positions(self, lengths: Sequence[int], images: Sequence[ImageSpan]) -> np.ndarray:
        """int64[T] or int64[T, 3]: rotary positions of a batch as it is first packed."""

    def fixed_grid(self) -> tuple[int, int]:
        """(height, width) in tokens of every picture of the base's own size.

        Raises:
            ValueError: every picture of this base has its own.
        """
