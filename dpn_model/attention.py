"""Packed causal attention, registered with transformers so that a base model's own layers call it.

A layer gets hidden states of shape (1, T, D) and an `AttentionLayout` as a keyword; the layout says which rows belong
together. On the CPU (and, until a varlen kernel is chosen, everywhere) samples of similar length share one padded SDPA
call: right padding under a causal mask needs no mask at all, because no real row may look at a later one.

Shape letters: B samples, T packed tokens, N heads, H head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION_NAME = "dpn_packed"
# A bucket may waste this share of its rows on padding before a new one is opened: one larger SDPA call beats two
# small ones until about a sixth of it is waste (CPU, 16-64 samples).
MAX_PADDING_SHARE = 0.15


@dataclass(frozen=True)
class Bucket:
    """Samples attended in one call: `rows` int64[b * n], the packed row behind every padded slot."""

    rows: Tensor
    num_samples: int


class AttentionLayout:
    """Which packed rows attend to which: prefill (causal within each sample)."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = tuple(lengths)
        self.device = device

    @property
    def is_uniform(self) -> bool:
        """All samples are equally long, so the packed rows already are a (B, n) rectangle."""
        return len(set(self.lengths)) == 1

    @cached_property
    def buckets(self) -> tuple[tuple[Bucket, ...], Tensor]:
        """Buckets, and int64[T]: where in their concatenated outputs each packed row is found."""
        lengths = np.asarray(self.lengths)
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        inverse = np.empty(int(lengths.sum()), dtype=np.int64)
        buckets, offset = [], 0
        for members in _group_by_length(lengths):
            longest = int(lengths[members].max())
            # Padding slots repeat the sample's last row: finite values that nothing reads.
            rows = starts[members, None] + np.minimum(np.arange(longest)[None, :], lengths[members, None] - 1)
            buckets.append(Bucket(torch.from_numpy(rows.reshape(-1)).to(self.device), len(members)))
            for place, sample in enumerate(members):
                first = offset + place * longest
                inverse[starts[sample] : starts[sample] + lengths[sample]] = np.arange(first, first + lengths[sample])
            offset += len(members) * longest
        return tuple(buckets), torch.from_numpy(inverse).to(self.device)


class DecodeLayout:
    """One new token per sample against caches of unequal length: `mask` bool[B, 1, 1, longest]."""

    def __init__(self, lengths: Sequence[int], longest: int, device: torch.device) -> None:
        cells = torch.arange(longest, device=device)[None, :] < torch.tensor(lengths, device=device)[:, None]
        self.mask = cells[:, None, None, :]


def _group_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(-lengths, kind="stable")
    groups: list[np.ndarray] = []
    first = 0
    for last in range(1, len(order) + 1):
        members = order[first : last + 1]
        is_wasteful = last < len(order) and (
            1 - lengths[members].sum() / (len(members) * lengths[members[0]]) > MAX_PADDING_SHARE
        )
        if is_wasteful or last == len(order):
            groups.append(order[first:last])
            first = last
    return groups


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: AttentionLayout | DecodeLayout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention over packed rows, called by transformers' attention modules.

    Args:
        module: the calling attention module (transformers' convention; unused).
        query, key, value: float[1, N, T, H]; when decoding, key and value are float[B, N, longest, H].
        attention_mask: ignored, the layout says everything.
        layout: which rows belong together.
        scaling: of the scores; default 1/sqrt(H).
        dropout: of the attention weights.

    Returns:
        float[1, T, N, H] and None (no attention weights).
    """
    del module, attention_mask
    has_groups = key.shape[1] != query.shape[1]
    if isinstance(layout, DecodeLayout):
        query = query.permute(2, 1, 0, 3)
        out = scaled_dot_product_attention(
            query, key, value, attn_mask=layout.mask, scale=scaling, enable_gqa=has_groups
        )
        return out.permute(2, 0, 1, 3), None
    qkv_TNH = tuple(tensor[0].transpose(0, 1) for tensor in (query, key, value))
    attend = partial(
        scaled_dot_product_attention, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=has_groups
    )
    if layout.is_uniform:
        return _in_rectangle(attend, qkv_TNH, len(layout.lengths))[None], None
    buckets, inverse = layout.buckets
    outs = [_in_rectangle(attend, tuple(t[b.rows] for t in qkv_TNH), b.num_samples) for b in buckets]
    return torch.cat(outs)[inverse][None], None


def _in_rectangle(attend: Callable[..., Tensor], qkv_TNH: tuple[Tensor, ...], num_samples: int) -> Tensor:
    """Attention over float[b * n, N, H] rows that form a (b, n) rectangle; returns float[b * n, N, H]."""
    query, key, value = (t.unflatten(0, (num_samples, -1)).transpose(1, 2) for t in qkv_TNH)
    return attend(query, key, value).transpose(1, 2).flatten(0, 1)


AttentionInterface.register(ATTENTION_NAME, packed_attention)
