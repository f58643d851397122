"""Packed causal attention, registered with transformers so that a base model's own layers call it.

A layer gets hidden states of shape (1, T, D) and a layout as a keyword; the layout says which rows belong together.
While a batch is prefilled, one of `attention_backends.BACKENDS` does the work. Rows behind a cache (decoding, a later
turn) attend to the cache's padded keys in one SDPA call.

Shape letters: B samples, T packed tokens, N heads, H head width, Q longest run of new rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from dpn_model.attention.backends import AttentionOptions, choose_backend
from dpn_model.attention.layout import AttentionLayout
from dpn_model.attention.watch import Watched

ATTENTION_NAME = "dpn_packed"
#: attribute of the decoder's configuration that names a backend; absent or None: chosen by device and dtype
BACKEND_SETTING = "packed_attention_backend"
#: what attention modules hand on that says nothing about scores: the layout knows positions and order
_SILENT = {"position_ids", "use_cache", "output_attentions"}
#: kernels want heads whose width is a multiple of this
_ALIGNMENT = 8


class CachedLayout:
    """New rows behind the cached rows of their sample: causal, each sample with its own lengths.

    Args:
        past, new: rows of every sample that runs the layer.
        device: of the rows.
        samples: which samples of the cache those are; None: all.
    """

    def __init__(
        self, past: Sequence[int], new: Sequence[int], device: torch.device, samples: Sequence[int] | None = None
    ) -> None:
        self.past = tuple(past)
        self.new = AttentionLayout(new, device)
        self.samples_B = None if samples is None else torch.tensor(samples, device=device)
        self.longest = max(p + n for p, n in zip(past, new, strict=True))

        self.mask = cache(self._mask)  # made once per window, for all layers that share it

    def _mask(self, window: int | None) -> Tensor | None:
        """bool[B, 1, Q, longest]: slots a new row may look at; None where every row may look at all."""
        most = max(self.new.lengths)
        if window is None and most == 1 and len(set(self.past)) == 1:
            return None
        device = self.new.device
        last_BQ1 = (torch.tensor(self.past, device=device)[:, None] + torch.arange(most, device=device))[..., None]
        slots = torch.arange(self.longest, device=device)
        seen = slots <= last_BQ1
        return (seen if window is None else seen & (slots > last_BQ1 - window))[:, None]


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
    sliding_window: int | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Attention over packed rows, called by transformers' attention modules.

    Args:
        module: the calling attention module; its configuration may name a backend.
        query, key, value: float[1, N, T, H]; behind a cache, key and value are float[B, N, longest, H].
        attention_mask: ignored, the layout says everything.
        layout: which rows belong together.
        scaling: of the scores; default 1/sqrt(H).
        dropout: of the attention weights.
        sliding_window: a row looks at so many rows, itself included; None: at all before it. After a reduction, the
            rows that are left count.
        others: refused, but for what changes no score.

    Returns:
        float[1, T, N, H] and None (no attention weights).

    Raises:
        ValueError: the named backend is unknown, or cannot work on these tensors; the module wants something of
            attention that is not known here (soft-capping, sinks).
    """
    unknown = [name for name, value in others.items() if value is not None and name not in _SILENT]
    if unknown:
        raise ValueError(f"{type(module).__name__} wants attention with {', '.join(unknown)}, which packed attention "
                         "cannot")  # fmt: skip
    longest = layout.longest if isinstance(layout, CachedLayout) else max(layout.lengths) + bool(layout.riders)
    window = sliding_window if sliding_window is not None and sliding_window < longest else None
    options = AttentionOptions(scaling, dropout, has_groups=key.shape[1] != query.shape[1], window=window)
    query_TNH, riders = query[0].transpose(0, 1), getattr(layout, "riders", None)
    watch, key_bias_T = (layout.watch, layout.key_bias_T) if isinstance(layout, AttentionLayout) else (None, None)
    if watch is not None and watch.layer == module.layer_idx:
        watch.seen = Watched(query_TNH, key[0].transpose(0, 1), scaling, window, key_bias_T=key_bias_T)
        if watch.only_look:
            return value.new_zeros(1, *query_TNH.shape[:2], value.shape[-1]), None
        if not watch.with_gradient:
            watch.seen = watch.seen.detached()
    if isinstance(layout, CachedLayout):
        return _attend_to_cache(query_TNH, key, value, layout, options)[None], None
    qkv = (query_TNH, key[0].transpose(0, 1), value[0].transpose(0, 1))
    if key_bias_T is not None:
        assert riders is None
        qkv, options = _with_bias(qkv, key_bias_T, options)
    backend = choose_backend(getattr(module.config, BACKEND_SETTING, None), qkv[0], options)
    if riders is None:
        return backend.attend(*qkv, layout, options)[None, ..., : value.shape[-1]], None
    own = slice(riders.behind)
    attended = backend.attend(qkv[0][own], qkv[1][own], qkv[2][own], layout, options)
    return torch.cat([attended, riders.attend(query_TNH[riders.behind :], *qkv[1:], options)])[None], None


def _with_bias(
    qkv: tuple[Tensor, Tensor, Tensor], bias_T: Tensor, options: AttentionOptions
) -> tuple[tuple[Tensor, Tensor, Tensor], AttentionOptions]:
    """Wider heads, whose scores have a bias for every key in them.

    It is one more coordinate: 1 in every query, bias / scale in the key. No backend needs to know of it, none makes a
    map of scores for it, and its gradient comes with the keys'.
    """
    query, key, value = qkv
    width = query.shape[-1]
    scale = 1 / math.sqrt(width) if options.scale is None else options.scale
    more = _ALIGNMENT - width % _ALIGNMENT
    column_TN1 = (bias_T / scale).to(key.dtype)[:, None, None].expand(-1, key.shape[1], 1)
    query = pad(pad(query, (0, 1), value=1.0), (0, more - 1))
    key = pad(torch.cat([key, column_TN1], dim=-1), (0, more - 1))
    return (query, key, pad(value, (0, more))), replace(options, scale=scale)


def _attend_to_cache(
    query_TNH: Tensor, key: Tensor, value: Tensor, layout: CachedLayout, options: AttentionOptions
) -> Tensor:
    if layout.samples_B is not None:
        key, value = key[layout.samples_B, :, : layout.longest], value[layout.samples_B, :, : layout.longest]
    rows, inverse = layout.new.rectangle
    rectangle = query_TNH if rows is None else query_TNH[rows]
    query = rectangle.unflatten(0, (key.shape[0], -1)).transpose(1, 2)
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=layout.mask(options.window), scale=options.scale, enable_gqa=options.has_groups
    )
    out_TNH = out.transpose(1, 2).flatten(0, 1)
    return out_TNH if inverse is None else out_TNH[inverse]


AttentionInterface.register(ATTENTION_NAME, packed_attention)
