"""Riders: rows beside a packed batch, each of which looks at the beginning of a sample, and at which no row looks.

Shape letters: T packed rows, R riders, S columns of the longest look, N heads, H head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dpn_model.attention.watch import Watched

if TYPE_CHECKING:
    from dpn_model.attention.backends import AttentionOptions


class Riders:
    """Which rows of a batch each rider looks at, itself beside them. In a layer they lie behind the batch's T rows.

    Args:
        behind: T.
        starts, seen: for every rider the first row that it looks at, and how many from there on.
        device: of the rows.
    """

    def __init__(self, behind: int, starts: Sequence[int], seen: Sequence[int], device: torch.device) -> None:
        self.behind, self.starts, self.seen, self.device = behind, tuple(starts), tuple(seen), device
        self._places = cache(self._looked_at)  # made once per window, for all layers that share it

    def attend(self, query_RNH: Tensor, key_TNH: Tensor, value_TNH: Tensor, options: AttentionOptions) -> Tensor:
        """float[R, N, H]; keys and values are those of the batch's rows, the riders' own behind them."""
        if not self.seen:
            return query_RNH[:, :, : value_TNH.shape[2]]
        rows_RS, is_seen_RS = self._places(options.window)
        key, value = (tensor[rows_RS].transpose(1, 2) for tensor in (key_TNH, value_TNH))
        out = scaled_dot_product_attention(
            query_RNH[:, :, None],
            key,
            value,
            attn_mask=is_seen_RS[:, None, None],
            dropout_p=options.dropout,
            scale=options.scale,
            enable_gqa=options.has_groups,
        )
        return out[:, :, 0]

    def log_attention(self, watched: Watched) -> list[Tensor]:
        """float32[N, seen + 1] of every rider: logarithms of its weights in a layer, its own row's last."""
        each = zip(self.starts, self.seen, strict=True)
        return [
            watched.log_attention_of(self.behind + number, start, seen) for number, (start, seen) in enumerate(each)
        ]

    def _looked_at(self, window: int | None) -> tuple[Tensor, Tensor]:
        """int64[R, S], rows of every rider's look, its own last, and bool[R, S], which of the columns there are."""
        seen_R1 = np.asarray(self.seen)[:, None]
        columns_S = np.arange(max(self.seen) + 1)
        own_R1 = self.behind + np.arange(len(self.seen))[:, None]
        rows_RS = np.where(columns_S < seen_R1, np.asarray(self.starts)[:, None] + columns_S, own_R1)
        is_seen_RS = columns_S <= seen_R1
        if window is not None:
            is_seen_RS &= columns_S > seen_R1 - window
        return torch.from_numpy(rows_RS).to(self.device), torch.from_numpy(is_seen_RS).to(self.device)
