"""HoloV's choice: quotas of stretches by attention and variety, inside a stretch by attention alone.

Shape letters: I pictures, V patches, S stretches, M tokens of the longest, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.holov.spec import HoloVSettings
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import kept_count
from dpn_model.packing import ImageSpan

#: of the authors: what attention is multiplied with, and what keeps divisions from nothing
_SCALE, _SMALL = 1e3, 1e-6


def build(settings: HoloVSettings, host: Host) -> Parts:
    """One selector."""
    return Parts(selector=HoloV(settings))


class HoloV(Selector):
    """Works behind the projector, as the authors' code does: likeness is that of projected tokens."""

    looks = frozenset({tower_layer(-2)})

    def __init__(self, settings: HoloVSettings) -> None:
        super().__init__()
        self.settings = settings
        self._width = 0

    @torch.no_grad()
    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """All pictures at once: they have one size; one copy from the device."""
        tokens_IVD = tokens_VD.unflatten(0, (len(images), -1)).float()
        self._width = tokens_IVD.shape[2]
        attention_IV = probe.cls_attention().mean(dim=1)
        cells_SM = stretches(tokens_IVD.shape[1], self.settings.chunks)
        scores_IS = stretch_scores(tokens_IVD, attention_IV, cells_SM, self.settings.diversity)
        found_IX = torch.cat([attention_IV, scores_IS], dim=1).double().cpu().numpy()
        count = kept_count(self.settings.keep, tokens_IVD.shape[1])
        return [
            self._kept(found_X[: -len(cells_SM)], found_X[-len(cells_SM) :], cells_SM, count) for found_X in found_IX
        ]

    def macs(self, image: ImageSpan, rows: ImageRows) -> int:
        """Likeness within stretches."""
        return self.settings.macs(image.num_tokens, self._width)

    def _kept(self, attention_V: np.ndarray, scores_S: np.ndarray, cells_SM: np.ndarray, count: int) -> ImageRows:
        kept = []
        for cells, quota in zip(cells_SM, quotas(scores_S, (cells_SM >= 0).sum(axis=1), count), strict=True):
            own = cells[cells >= 0]
            kept.append(own[np.argsort(-attention_V[own], kind="stable")[:quota]])
        return ImageRows.kept(np.sort(np.concatenate(kept)))


def stretches(tokens: int, chunks: int) -> np.ndarray:
    """int64[S, M]: consecutive tokens, the first stretches one longer where they do not come out even; -1 absent."""
    parts = np.array_split(np.arange(tokens), min(chunks, tokens))
    cells = np.full((len(parts), len(parts[0])), -1)
    for number, part in enumerate(parts):
        cells[number, : len(part)] = part
    return cells


def stretch_scores(tokens_IVD: Tensor, attention_IV: Tensor, cells_SM: np.ndarray, diversity: float) -> Tensor:
    """float[I, S]: mean over a stretch of attention and of `diversity` times the variance of likeness, scaled to it.

    As in the authors' code a token's likeness to itself counts as 0 and takes part in the variance.
    """
    cells = torch.from_numpy(np.maximum(cells_SM, 0)).to(tokens_IVD.device)
    is_there_SM = torch.from_numpy(cells_SM >= 0).to(tokens_IVD.device)
    sizes_S1 = is_there_SM.sum(dim=1, keepdim=True)
    rows_ISMD = tokens_IVD[:, cells]
    unit = rows_ISMD / (rows_ISMD.norm(dim=-1, keepdim=True) + _SMALL) * is_there_SM[..., None]
    likeness = unit @ unit.mT
    likeness = likeness.masked_fill(torch.eye(likeness.shape[-1], dtype=torch.bool, device=likeness.device), 0)
    others_S1 = (sizes_S1 - 1).clamp(min=1)
    mean_ISM = likeness.sum(dim=-1) / others_S1
    distance = (likeness - mean_ISM[..., None]).square() * is_there_SM[:, None, :]
    variance_ISM = distance.sum(dim=-1) / others_S1 * is_there_SM
    attention_ISM = attention_IV[:, cells] * _SCALE * is_there_SM
    mean_attention = attention_ISM.sum(dim=-1) / sizes_S1[:, 0]
    mean_variance = variance_ISM.sum(dim=-1) / sizes_S1[:, 0]
    return mean_attention + diversity * mean_variance * mean_attention / (mean_variance + _SMALL)


def quotas(scores_S: np.ndarray, sizes_S: np.ndarray, count: int) -> np.ndarray:
    """int64[S] that add up to `count`: shares of the scores rounded down, one more each to the heaviest.

    What a stretch is too short for goes to the heaviest that have room; the authors fill up with zeros instead.
    """
    weights = scores_S / (scores_S.sum() + _SMALL)
    heaviest = np.argsort(-weights, kind="stable")
    found = np.floor(weights * count).astype(np.int64)
    found[heaviest[: count - found.sum()]] += 1
    found = np.minimum(found, sizes_S)
    while (missing := count - found.sum()) > 0:
        room = heaviest[found[heaviest] < sizes_S[heaviest]]
        found[room[:missing]] += 1
    return found
