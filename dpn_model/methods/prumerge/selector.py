"""PruMerge: outliers of the class token's attention, and what is merged into them (spec peer-methods 5.1 and 5.2).

Shape letters: I pictures, P tokens of the tower (class token first), N patches, K kept ones, C width of the tower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.prumerge.spec import PruMergeSettings
from dpn_model.methods.rows import ImageRows
from dpn_model.packing import ImageSpan


def build(settings: PruMergeSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=PruMerge(settings, host))


class PruMerge(Selector):
    """Works on the tower's features. Queries and keys are the last layer's, which the authors do not split in heads."""

    before_projector = True
    looks = frozenset({tower_layer(-1)})

    def __init__(self, settings: PruMergeSettings, host: Host) -> None:
        super().__init__()
        self.settings, self.positions = settings, settings.positions
        self.width = host.base.vision_config.hidden_size

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """One copy to the host, of every picture's outliers and order; the rest of the choice is made there."""
        settings, patches = self.settings, images[0].num_tokens
        tokens_IND = tokens_VD.unflatten(0, (len(images), patches))
        with torch.no_grad():
            keys_IPC = probe.keys(-1).float()
            logits_IP = torch.einsum("ic,ipc->ip", probe.queries(-1)[:, 0].float(), keys_IPC) / math.sqrt(self.width)
            attention_IN = logits_IP.softmax(dim=1)[:, 1:]
            order_IN = attention_IN.sort(dim=1, descending=True, stable=True).indices
            outliers_I = outliers_of(attention_IN, settings.iqr)
            copied = torch.cat([outliers_I[:, None], order_IN], dim=1).cpu().numpy()
        found = []
        for number, (outliers, *order) in enumerate(copied.tolist()):
            kept = settings.chosen(order, outliers)
            dropped = np.setdiff1d(np.arange(patches), kept) if settings.extra_token else np.empty(0, np.int64)
            places = np.concatenate([kept, dropped[:1]])  # the extra row stands in the place of the first dropped one
            with torch.no_grad():
                scores_N, keys_NC = attention_IN[number], keys_IPC[number, 1:]
                weights_VN = mixture(places, dropped, keys_NC, scores_N, settings.neighbours)
            made = (weights_VN @ tokens_IND[number].float()).to(tokens_VD.dtype)
            found.append(ImageRows.given(places, made, weights_VN.count_nonzero(dim=1)))
        return found

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """See `PruMergeSettings.macs`."""
        assert rows.made is not None
        return self.settings.macs(image.num_tokens, len(rows.windows), self.width, rows.made.shape[1])


def outliers_of(attention_IN: Tensor, iqr: float) -> Tensor:
    """int64[I]: how many values lie above the third quartile by more than `iqr` interquartile ranges."""
    first_I1, third_I1 = (attention_IN.quantile(share, dim=1, keepdim=True) for share in (0.25, 0.75))
    return (attention_IN > third_I1 + iqr * (third_I1 - first_I1)).sum(dim=1)


def mixture(places: np.ndarray, dropped: np.ndarray, keys_NC: Tensor, scores_N: Tensor, neighbours: int) -> Tensor:
    """How the rows of one picture are made from its patches.

    Args:
        places: int64[V], the kept patches in the order they go on; behind them the first dropped, for the extra row.
        dropped: int64[N - K], patches of the extra row; none: there is no such row.
        keys_NC, scores_N: key and attention of every patch.
        neighbours: merged into each kept one: those of nearest key among all others, kept or not.

    Returns:
        float32[V, N]: weights of all patches in each row. What is merged weighs its attention, not normalised.
    """
    device = scores_N.device
    places_V1 = torch.from_numpy(places).to(device)[:, None]
    unit_NC = F.normalize(keys_NC, dim=-1)
    cosines_VN = (unit_NC[places_V1[:, 0]] @ unit_NC.T).scatter(1, places_V1, -torch.inf)
    is_nearest_VN = largest(cosines_VN, min(neighbours, len(scores_N) - 1))
    weights_VN = torch.where(is_nearest_VN, scores_N, 0.0).scatter(1, places_V1, 1.0)
    if len(dropped):
        at = torch.from_numpy(dropped).to(device)
        weights_VN[-1] = torch.zeros_like(scores_N).index_copy(0, at, scores_N[at])
    return weights_VN


def largest(values_VN: Tensor, count: int) -> Tensor:
    """bool[V, N]: the `count` largest of every row; of equal ones, the first. Sorting whole rows is slower."""
    if not count:
        return torch.zeros_like(values_VN, dtype=torch.bool)
    least_V1 = values_VN.topk(count, dim=1).values[:, -1:]
    above_VN, equal_VN = values_VN > least_V1, values_VN == least_V1
    left_V1 = count - above_VN.sum(dim=1, keepdim=True)
    return above_VN | (equal_VN & (equal_VN.cumsum(dim=1) <= left_V1))
