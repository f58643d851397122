"""An image side that remembers its pictures, so that a checkpoint's variants and routes share one run of the tower.

Shape letters: V visual tokens of some images together, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, ImageSide
from dpn_model.methods.contract import Parts
from dpn_model.methods.probe import TowerPicture, is_of_tower


class RememberedImages:
    """An image side whose pictures go through the tower beforehand, once; they are told apart as the tensors they are.

    Pictures that it has not learned, those of another processor than ours, are encoded where they are shown. Once a
    method has looked at the tower, what it looks at is kept of every picture, so that all variants share one run.
    """

    def __init__(self, inner: ImageSide) -> None:
        self.inner = inner
        # Boxes are read from what the tower made of a picture, so there that is kept from the first.
        self._looks: frozenset[str] | None = frozenset() if inner.has_objects else None
        self._features: dict[int, Tensor] = {}
        self._towers: dict[int, TowerPicture] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def over(self, inner: ImageSide, parts: Parts) -> None:
        """The side of another method, on the same pictures."""
        self.inner = inner
        looks = frozenset(look for part in parts.all() for look in part.looks if is_of_tower(look))
        if looks or inner.has_objects or (parts.selector is not None and parts.selector.before_projector):
            if self._looks is None or not looks <= self._looks:
                self._towers.clear()
            self._looks = (self._looks or frozenset()) | looks

    def encode(self, model: Any, pixel_values: Sequence[Tensor], inputs: ImageInputs) -> Tensor:
        """float[V, D]: of what `learn` found, in reading order."""
        if any(id(pixels) not in self._features and id(pixels) not in self._towers for pixels in pixel_values):
            return self.inner.encode(model, pixel_values, inputs)
        for pixels in pixel_values:
            if id(pixels) not in self._features:
                self._features[id(pixels)] = self.inner.project(model, self._towers[id(pixels)].features_PC)
        return torch.cat([self._features[id(pixels)] for pixels in pixel_values])

    def tower(
        self, model: Any, pixel_values: Sequence[Tensor], inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """See `ImageSide`: what `learn` found, in reading order."""
        if not self._towers:
            return self.inner.tower(model, pixel_values, inputs, looks)
        return [self._towers[id(pixels)] for pixels in pixel_values]

    @torch.no_grad()
    def learn(self, model: Any, pixel_values: Sequence[Tensor]) -> None:
        """Runs the tower over the pictures it has not seen."""
        known: Mapping[int, Any] = self._features if self._looks is None else self._towers
        new = [pixels for pixels in {id(one): one for one in pixel_values}.values() if id(pixels) not in known]
        if new and self._looks is not None:
            pictures = self.inner.tower(model, torch.stack(new), {}, self._looks)
            self._towers.update((id(pixels), one) for pixels, one in zip(new, pictures, strict=True))
        elif new:
            sizes = [sum(piece.num_tokens for piece in pieces) for pieces in self.inner.pieces(new, {})]
            features = self.inner.encode(model, torch.stack(new), {}).split(sizes)
            self._features.update((id(pixels), one) for pixels, one in zip(new, features, strict=True))

    def forget(self) -> None:
        """Drops all features."""
        self._features.clear()
        self._towers.clear()
