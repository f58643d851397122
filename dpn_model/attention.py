"""Packed causal attention, registered with transformers so that a base model's own layers call it.

A layer gets hidden states of shape (1, T, D) and a layout as a keyword; the layout says which rows belong together.
While a batch is prefilled, one of `attention_backends.BACKENDS` does the work. Rows behind a cache (decoding, a later
turn) attend to the cache's padded keys in one SDPA call.

Shape letters: B samples, T packed tokens, N heads, H head width, Q longest run of new rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from dpn_model.attention_backends import AttentionOptions, choose_backend
from dpn_model.attention_layout import AttentionLayout

ATTENTION_NAME = "dpn_packed"
#: attribute of the decoder's configuration that names a backend; absent or None: chosen by device and dtype
BACKEND_SETTING = "packed_attention_backend"


class CachedLayout:
    """New rows behind the cached rows of their sample: causal, each sample with its own lengths."""

    def __init__(self, past: Sequence[int], new: Sequence[int], device: torch.device) -> None:
        self.past = tuple(past)
        self.new = AttentionLayout(new, device)
        self.longest = max(p + n for p, n in zip(past, new, strict=True))

    @cached_property
    def mask(self) -> Tensor | None:
        """bool[B, 1, Q, longest]: slots a new row may look at; None where every row may look at all."""
        most = max(self.new.lengths)
        if most == 1 and len(set(self.past)) == 1:
            return None
        device = self.new.device
        last_BQ = torch.tensor(self.past, device=device)[:, None] + torch.arange(most, device=device)
        return (torch.arange(self.longest, device=device) <= last_BQ[..., None])[:, None]


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: AttentionLayout | CachedLayout,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention over packed rows, called by transformers' attention modules.

    Args:
        module: the calling attention module; its configuration may name a backend.
        query, key, value: float[1, N, T, H]; behind a cache, key and value are float[B, N, longest, H].
        attention_mask: ignored, the layout says everything.
        layout: which rows belong together.
        scaling: of the scores; default 1/sqrt(H).
        dropout: of the attention weights.

    Returns:
        float[1, T, N, H] and None (no attention weights).

    Raises:
        ValueError: the named backend is unknown, or cannot work on these tensors.
    """
    options = AttentionOptions(scaling, dropout, has_groups=key.shape[1] != query.shape[1])
    query_TNH = query[0].transpose(0, 1)
    if isinstance(layout, CachedLayout):
        return _attend_to_cache(query_TNH, key, value, layout, options)[None], None
    backend = choose_backend(getattr(module.config, BACKEND_SETTING, None), query_TNH, options)
    return backend.attend(query_TNH, key[0].transpose(0, 1), value[0].transpose(0, 1), layout, options)[None], None


def _attend_to_cache(
    query_TNH: Tensor, key: Tensor, value: Tensor, layout: CachedLayout, options: AttentionOptions
) -> Tensor:
    rows, inverse = layout.new.rectangle
    rectangle = query_TNH if rows is None else query_TNH[rows]
    query = rectangle.unflatten(0, (key.shape[0], -1)).transpose(1, 2)
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=layout.mask, scale=options.scale, enable_gqa=options.has_groups
    )
    out_TNH = out.transpose(1, 2).flatten(0, 1)
    return out_TNH if inverse is None else out_TNH[inverse]


AttentionInterface.register(ATTENTION_NAME, packed_attention)
