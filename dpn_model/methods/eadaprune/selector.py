"""E-AdaPrune's count from the spectrum of the tower's features, filled up by the class token's attention.

Shape letters: I pictures, V patches, C width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.eadaprune.spec import EAdaPruneSettings
from dpn_model.methods.keeping import best_rows
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.spectra import energies, gram_macs, values_holding
from dpn_model.packing import ImageSpan


def build(settings: EAdaPruneSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=EAdaPrune(settings))


class EAdaPrune(Selector):
    """Works in front of the projector. The spectrum is exact; the authors draw a randomised one, which is faster."""

    before_projector = True
    looks = frozenset({tower_layer(-2)})

    def __init__(self, settings: EAdaPruneSettings) -> None:
        super().__init__()
        self.settings = settings
        self._width = 0

    @torch.no_grad()
    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """All pictures at once: they have one size."""
        features_IVC = tokens_VD.unflatten(0, (len(images), -1))
        least, most = self.settings.bounds(*features_IVC.shape[1:])
        self._width = features_IVC.shape[2]
        counts = values_holding(energies(features_IVC), self.settings.energy).clamp(least, most)
        kept = best_rows(list(probe.cls_attention().mean(dim=1)), counts.tolist())
        return [ImageRows.kept(rows) for rows in kept]

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """The Gram matrix."""
        return gram_macs(image.num_tokens, self._width)
