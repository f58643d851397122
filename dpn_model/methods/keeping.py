"""Keeping the best visual tokens of every picture, as they are and in their order: what rankers share.

Shape letters: T packed rows, V visual tokens of one picture, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.contract import Selector, TokenReducer
from dpn_model.methods.probe import Probe, VisionProbe
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.packing import ImageSpan, PackedSequence


def best_rows(scores: Sequence[Tensor], counts: Sequence[int]) -> list[np.ndarray]:
    """For every picture int64[count], ascending: its rows of highest score; of equal ones, the first.

    Args:
        scores: float[V] of each picture; one copy from the device for all of them.
        counts: how many are kept of each.
    """
    if not scores:
        return []
    found = [
        score.detach().sort(descending=True, stable=True).indices[:count].sort().values
        for score, count in zip(scores, counts, strict=True)
    ]
    ends = np.cumsum([len(rows) for rows in found])[:-1]
    return np.split(torch.cat(found).cpu().numpy(), ends)


def columns_of(state: PackedSequence, image: ImageSpan) -> slice:
    """Where a picture's rows lie in an axis over the rows of its sample, as in what `Probe.attention` gives."""
    start = image.start - state.starts[image.sample]
    return slice(start, start + image.num_tokens)


class Ranker(TokenReducer):
    """Keeps, after a layer, the best tokens of every picture; who scores them is a subclass's matter.

    Args:
        layer: 1-based, after which it acts; 0: before the first.
        positions: as in `SitedSettings`.
    """

    def __init__(self, layer: int, positions: str) -> None:
        super().__init__(layer)
        self.keeps_positions = positions == "keep"

    def count(self, entered: int, now: int) -> int:
        """Tokens of a picture that are kept.

        Args:
            entered: as it entered the decoder.
            now: in front of this site.
        """
        raise NotImplementedError

    def scores(self, state: PackedSequence, probe: Probe) -> list[Tensor]:
        """float[V] of every picture of the batch, the best highest."""
        raise NotImplementedError

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        """Score, keep, and tell how many were kept of every sample."""
        tokens_in = state.visual_tokens()
        counts = [
            self.count(before.num_tokens, now.num_tokens)
            for before, now in zip(probe.entered, state.images, strict=True)
        ]
        rows = [ImageRows.kept(kept) for kept in best_rows(self.scores(state, probe), counts)]
        after, _ = replace_image_rows(state, rows, keep_positions=self.keeps_positions)
        tokens_out = after.visual_tokens()
        choices = tuple(str(out) if before else "-" for before, out in zip(tokens_in, tokens_out, strict=True))
        return after, ReductionRecord(self.layer, tokens_in, tokens_out, choices)


class BestPatches(Selector):
    """Keeps, in front of the decoder, the best tokens of every picture; who scores them is a subclass's matter."""

    def count(self, tokens: int) -> int:
        """Tokens that are kept of a picture of `tokens`."""
        raise NotImplementedError

    def scores(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[Tensor]:
        """float[V] of every picture, the best highest."""
        raise NotImplementedError

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """Score and keep."""
        counts = [self.count(image.num_tokens) for image in images]
        return [ImageRows.kept(rows) for rows in best_rows(self.scores(tokens_VD, images, probe), counts)]
