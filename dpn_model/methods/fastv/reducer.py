"""FastV's ranking: attention in the finished layer, mean over heads (arXiv 2403.06764; spec peer-methods 6.1).

The authors' code needs eager attention for the whole layer; here the layer stays on the fused kernel and only the rows
that rank are worked out, and billed. Ranked once, at prefill: layers up to K cache all tokens, later ones what is kept.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.fastv.spec import FastVSettings
from dpn_model.methods.keeping import Ranker, columns_of
from dpn_model.methods.probe import ATTENTION, Probe
from dpn_model.packing import PackedSequence, TokenKind


def build(settings: FastVSettings, host: Host) -> Parts:
    """One drop."""
    return Parts({layer: FastV(layer, settings) for layer in settings.resolve_sites(host.num_layers)})


class FastV(Ranker):
    """Keeps what the ranking rows look at most."""

    looks = frozenset({ATTENTION})

    def __init__(self, layer: int, settings: FastVSettings) -> None:
        super().__init__(layer, settings.positions)
        self.settings = settings

    def count(self, entered: int, now: int) -> int:
        """`keep` of what is there."""
        return self.settings.kept(now)

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """Mean attention of the ranking rows over heads."""
        weights = probe.attention(self._ranking_rows(state))
        return [weights[image.sample].mean(dim=(0, 1))[columns_of(state, image)] for image in state.images]

    def _ranking_rows(self, state: PackedSequence) -> np.ndarray | None:
        if self.settings.query == "last":
            return None
        rows = np.arange(sum(state.lengths))
        return rows if self.settings.query == "all" else rows[(state.kind_T != TokenKind.VISION).cpu().numpy()]
