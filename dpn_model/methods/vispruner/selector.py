"""VisPruner's choice: the best by the class token's attention, then rounds that drop what resembles most.

Shape letters: I pictures, V patches, L of them left, C width of the tower.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.vispruner.spec import VisPrunerSettings
from dpn_model.packing import ImageSpan


def build(settings: VisPrunerSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=VisPruner(settings))


class VisPruner(Selector):
    """Works in front of the projector, so that only what it keeps is projected."""

    before_projector = True
    looks = frozenset({tower_layer(-2)})

    def __init__(self, settings: VisPrunerSettings) -> None:
        super().__init__()
        self.settings = settings
        self._width = 0

    @torch.no_grad()
    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """All pictures at once: they have one size."""
        features_IVC = tokens_VD.unflatten(0, (len(images), -1)).float()
        self._width = features_IVC.shape[2]
        kept_IV = self.chosen(features_IVC, probe.cls_attention().mean(dim=1))
        return [ImageRows.kept(rows) for rows in kept_IV.cpu().numpy()]

    def chosen(self, features_IVC: Tensor, attention_IV: Tensor) -> Tensor:
        """int64[I, T], ascending: the rows that are kept.

        In every round the tokens that are left, at first by attention, are dealt into those at even and odd places;
        the even ones that are most like an odd one go, and the others are dealt again, the likest first.
        """
        by_attention, diverse = self.settings.counts(features_IVC.shape[1])
        unit_IVC = normalize(features_IVC, dim=2)
        order_IV = attention_IV.sort(dim=1, descending=True, stable=True).indices
        best_IV, left_IL = order_IV[:, :by_attention], order_IV[:, by_attention:]
        pictures_I1 = torch.arange(len(unit_IVC), device=unit_IVC.device)[:, None]
        for _, count in self.settings.drops(features_IVC.shape[1]):
            rows_ILC = unit_IVC[pictures_I1, left_IL]
            likeness = (rows_ILC[:, ::2] @ rows_ILC[:, 1::2].mT).amax(dim=2)
            unlike = likeness.sort(dim=1, descending=True, stable=True).indices[:, count:]
            left_IL = torch.cat([left_IL[:, ::2].gather(1, unlike), left_IL[:, 1::2]], dim=1)
        return torch.cat([best_IV, left_IL[:, :diverse]], dim=1).sort(dim=1).values

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """The rounds' products."""
        return self.settings.macs(image.num_tokens, self._width)
