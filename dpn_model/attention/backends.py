"""Kernels behind packed attention, one interface: flash kernels for packed rows on CUDA, plain SDPA everywhere.

Right padding under a causal mask needs no mask at all, because no real row may look at a later one; so samples of
similar length may share one padded SDPA call (specification of performance, 1.2 and 1.3).

Shape letters: T packed tokens, N heads, H head width, b samples of a bucket, n rows each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dpn_model.attention.layout import AttentionLayout
from dpn_model.attention.varlen import load_varlen

MAX_FLASH_HEAD = 256


@dataclass(frozen=True)
class AttentionOptions:
    """What a layer wants of attention.

    Attributes:
        scale: of the scores; None: 1/sqrt(H).
        dropout: of the weights.
        has_groups: heads share keys (GQA).
        window: a row looks at so many rows, itself included; None: at all before it.
    """

    scale: float | None = None
    dropout: float = 0.0
    has_groups: bool = False
    window: int | None = None

    @property
    def flash_window(self) -> tuple[int, int]:
        """Rows before and behind a row that it may look at, as FlashAttention counts them (-1: all)."""
        return (-1 if self.window is None else self.window - 1, 0)


@dataclass(frozen=True)
class AttentionBackend:
    """One way to attend.

    Attributes:
        attend: (query, key, value float[T, N, H], layout, options) -> float[T, N, H].
        lacks: what is missing to run on a query float[T, N, H] with the options; None: nothing.
    """

    attend: Callable[[Tensor, Tensor, Tensor, AttentionLayout, AttentionOptions], Tensor]
    lacks: Callable[[Tensor, AttentionOptions], str | None]


def choose_backend(name: str | None, query_TNH: Tensor, options: AttentionOptions) -> AttentionBackend:
    """The named backend, or the fastest that can run.

    Raises:
        ValueError: an unknown name, or a backend that cannot run on these tensors.
    """
    if name is None:
        return next(backend for backend in BACKENDS.values() if backend.lacks(query_TNH, options) is None)
    check_backend(name)
    missing = BACKENDS[name].lacks(query_TNH, options)
    if missing is not None:
        possible = [other for other, backend in BACKENDS.items() if backend.lacks(query_TNH, options) is None]
        raise ValueError(f"attention backend {name!r} needs {missing}; allowed here: {', '.join(possible)}")
    return BACKENDS[name]


def check_backend(name: str) -> None:
    """Raise ValueError unless `name` is a backend."""
    if name not in BACKENDS:
        raise ValueError(f"unknown attention backend {name!r}; allowed: {', '.join(BACKENDS)}, or None to choose")


def _lacks_for_flash(query_TNH: Tensor, options: AttentionOptions) -> str | None:
    if query_TNH.device.type != "cuda":
        return "a CUDA device"
    if query_TNH.dtype not in (torch.float16, torch.bfloat16):
        return f"float16 or bfloat16, not {query_TNH.dtype}"
    if query_TNH.shape[-1] > MAX_FLASH_HEAD:
        return f"heads of at most {MAX_FLASH_HEAD}, not {query_TNH.shape[-1]}"
    return None


def _lacks_for_varlen(query_TNH: Tensor, options: AttentionOptions) -> str | None:
    if options.dropout:
        return "attention dropout 0"
    return _lacks_for_flash(query_TNH, options)


def _lacks_for_flash_attn(query_TNH: Tensor, options: AttentionOptions) -> str | None:
    if find_spec("flash_attn") is None:
        return "the package flash-attn"
    return _lacks_for_flash(query_TNH, options)


def _lacks_nothing(query_TNH: Tensor, options: AttentionOptions) -> None:
    return None


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, options: AttentionOptions
) -> Tensor:
    return load_varlen()(query, key, value, layout.cu_seqlens, max(layout.lengths), options.scale, options.flash_window)


def _attend_flash_attn(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, options: AttentionOptions
) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    ends, longest = layout.cu_seqlens, max(layout.lengths)
    out: Tensor = flash_attn_varlen_func(
        query, key, value, ends, ends, longest, longest,
        dropout_p=options.dropout, softmax_scale=options.scale, causal=True, window_size=options.flash_window,
    )  # fmt: skip
    return out


def _attend_loop(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, options: AttentionOptions
) -> Tensor:
    samples = zip(*(tensor.split(layout.lengths) for tensor in (query, key, value)), strict=True)
    return torch.cat([_attend_rectangle(qkv, 1, options) for qkv in samples])


def _attend_buckets(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, options: AttentionOptions
) -> Tensor:
    if layout.is_uniform:
        return _attend_rectangle((query, key, value), len(layout.lengths), options)
    buckets, inverse = layout.buckets
    outs = [_attend_rectangle((query[b.rows], key[b.rows], value[b.rows]), b.num_samples, options) for b in buckets]
    return torch.cat(outs)[inverse]


def _attend_rectangle(qkv: tuple[Tensor, ...], num_samples: int, options: AttentionOptions) -> Tensor:
    """Attention over float[b * n, N, H] rows that form a (b, n) rectangle; returns float[b * n, N, H]."""
    query, key, value = (rows.unflatten(0, (num_samples, -1)).transpose(1, 2) for rows in qkv)
    attend = partial(scaled_dot_product_attention, enable_gqa=options.has_groups, scale=options.scale)
    if options.window is None:
        out = attend(query, key, value, is_causal=True, dropout_p=options.dropout)
    else:
        before = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).tril()
        seen = before.triu(1 - options.window)
        out = attend(query, key, value, attn_mask=seen, dropout_p=options.dropout)
    return out.transpose(1, 2).flatten(0, 1)


#: by name, the fastest first
BACKENDS: dict[str, AttentionBackend] = {
    "varlen": AttentionBackend(_attend_varlen, _lacks_for_varlen),
    "flash_attn": AttentionBackend(_attend_flash_attn, _lacks_for_flash_attn),
    "sdpa_buckets": AttentionBackend(_attend_buckets, _lacks_nothing),
    "sdpa_loop": AttentionBackend(_attend_loop, _lacks_nothing),
}
