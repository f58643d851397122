"""Queries and keys of one layer, kept while it runs, and rows of attention worked out from them afterwards.

Shape letters: T packed rows, Q rows that ask, n rows of one sample, N heads, H head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Watched:
    """What a layer's attention was given.

    Attributes:
        query_TNH: float[T, N, H], rotary positions in it. With `query_rows`, of those rows alone.
        key_TNH: float[T, N of keys, H].
        scale: of the scores.
        window: rows that a row looks at, itself included; None: all before it.
        query_rows: int64[Q] packed rows, ascending; None: all.
        key_bias_T: float32[T], added to the scores of every key; None: nothing is.
    """

    query_TNH: Tensor
    key_TNH: Tensor
    scale: float | None = None
    window: int | None = None
    query_rows: np.ndarray | None = None
    key_bias_T: Tensor | None = None

    def detached(self) -> Watched:
        """The same without gradient."""
        bias_T = None if self.key_bias_T is None else self.key_bias_T.detach()
        return replace(self, query_TNH=self.query_TNH.detach(), key_TNH=self.key_TNH.detach(), key_bias_T=bias_T)

    def has_queries_of(self, rows: np.ndarray | None) -> bool:
        """Whether queries of some packed rows (None: of all) are there."""
        return self.query_rows is None or (rows is not None and bool(np.isin(rows, self.query_rows).all()))

    def rows_of_attention(self, start: int, length: int, asking: np.ndarray) -> Tensor:
        """float32[N, Q, n]: what some rows of one sample looked at.

        Computed sample by sample, so that no neighbour changes a digit.

        Args:
            start, length: of the sample.
            asking: int64[Q], rows counted from its first.
        """
        device = self.query_TNH.device
        places = torch.from_numpy(asking).to(device)
        rows = start + asking if self.query_rows is None else np.searchsorted(self.query_rows, start + asking)
        scores = self._scores(self.query_TNH[torch.from_numpy(rows).to(device)], self.key_TNH[start : start + length])
        if self.key_bias_T is not None:
            scores = scores + self.key_bias_T[start : start + length]
        columns = torch.arange(length, device=device)
        hidden = columns > places[:, None]
        if self.window is not None:
            hidden |= columns <= places[:, None] - self.window
        return scores.masked_fill(hidden, -math.inf).softmax(dim=-1)

    def log_attention_of(self, rider: int, start: int, seen: int) -> Tensor:
        """float32[N, seen + 1]: logarithms of a rider's weights, over `seen` rows from `start` on and itself behind."""
        keys = torch.cat([self.key_TNH[start : start + seen], self.key_TNH[rider : rider + 1]])
        scores = self._scores(self.query_TNH[rider : rider + 1], keys)[:, 0]
        if self.window is not None:
            scores = scores.masked_fill(torch.arange(seen + 1, device=scores.device) <= seen - self.window, -math.inf)
        return scores.log_softmax(dim=-1)

    def _scores(self, query_QNH: Tensor, key_XNH: Tensor) -> Tensor:
        """float32[N, Q, X]: of X keys."""
        queries, keys = (tensor.float().transpose(0, 1) for tensor in (query_QNH, key_XNH))
        if len(keys) < len(queries):  # else it would be a copy for nothing
            keys = keys.repeat_interleave(len(queries) // len(keys), dim=0)
        scale = 1 / math.sqrt(queries.shape[-1]) if self.scale is None else self.scale
        return queries @ keys.transpose(1, 2) * scale


class Watch:
    """Hung on a layout: which layer to keep, what was kept, and whether its output is wanted at all.

    What is kept of a layer that runs has no gradient, unless it is to have one (`with_gradient`; recomputed layers
    give it where checkpoints are not reentrant); of one that is only looked at, as the caller's mode has it.
    """

    def __init__(self, layer: int, *, only_look: bool = False, with_gradient: bool = False) -> None:
        self.layer = layer
        self.only_look = only_look
        self.with_gradient = with_gradient
        self.seen: Watched | None = None
