"""DivPrune's greedy choice: always the token farthest from those that are kept (spec peer-methods 5.5).

Shape letters: G pictures of one size, V visual tokens of each, K kept of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.diverse import DiversePatches, cosines
from dpn_model.methods.divprune.spec import DivPruneSettings
from dpn_model.methods.probe import VisionProbe
from dpn_model.packing import ImageSpan


def build(settings: DivPruneSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=DivPrune(settings.keep, settings.positions, host.hidden_size))


class DivPrune(DiversePatches):
    """Works on projected tokens, as the authors' code does."""

    def picks(self, tokens_GVD: Tensor, count: int, images: Sequence[ImageSpan], probe: VisionProbe) -> Tensor:
        """int64[G, K]."""
        return farthest(1 - cosines(tokens_GVD), count)


def farthest(distance_GVV: Tensor, count: int) -> Tensor:
    """int64[G, K], in the order of choice; of equally distant tokens, the first.

    It begins with the token whose nearest neighbour is farthest away, which the authors read from the second smallest
    entry of each column: the smallest is the distance to itself.
    """
    pictures = torch.arange(len(distance_GVV), device=distance_GVV.device)
    nearest_GV = distance_GVV.topk(min(2, distance_GVV.shape[1]), dim=1, largest=False).values[:, -1]
    chosen: list[Tensor] = []
    for step in range(count):
        pick_G = nearest_GV.argmax(dim=1)
        chosen.append(pick_G)
        to_pick_GV = distance_GVV[pictures, pick_G]
        nearest_GV = to_pick_GV.clone() if step == 0 else torch.minimum(nearest_GV, to_pick_GV)
        nearest_GV[pictures, pick_G] = -torch.inf  # so that equal tokens are not taken for the one that is kept
    return torch.stack(chosen, dim=1)
