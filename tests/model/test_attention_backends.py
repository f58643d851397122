"""Attention backends agree with each other, are chosen by what they need, and adapt to every torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dpn_model import DpnForConditionalGeneration
from dpn_model.attention.backends import BACKENDS, AttentionOptions, choose_backend
from dpn_model.attention.layout import MAX_PADDING_SHARE, AttentionLayout
from dpn_model.attention.packed import BACKEND_SETTING, CachedLayout, packed_attention
from dpn_model.attention.varlen import adapt_varlen

CPU = torch.device("cpu")
LENGTHS = {
    "uneven": (5, 1, 17, 16, 3),
    "equal": (6, 6, 6),
    "one": (9,),
    "many short": tuple(1 + number % 7 for number in range(40)),
}
ON_CPU = ("sdpa_buckets", "sdpa_loop")
ON_GPU = ("varlen", "flash_attn")


def _qkv(lengths: tuple[int, ...], *, heads: int = 4, key_heads: int = 2, width: int = 8) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    shapes = [(sum(lengths), count, width) for count in (heads, key_heads, key_heads)]
    return tuple(torch.randn(shape, requires_grad=True) for shape in shapes)


def _reference(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """Row by row in float64: softmax of the scores over the rows of the sample up to this one."""
    return _weighted(query, key, value, torch.ones(len(query)), lengths, scale, None)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("name", ON_CPU)
def test_cpu_backends_equal_the_definition(name: str, lengths: tuple[int, ...]) -> None:
    qkv = _qkv(lengths)
    options = AttentionOptions(scale=0.3, has_groups=True)
    ours = choose_backend(name, qkv[0], options).attend(*qkv, AttentionLayout(lengths, CPU), options)
    theirs = _reference(*qkv, lengths, 0.3)
    torch.testing.assert_close(ours.double(), theirs, atol=2e-6, rtol=1e-5)  # measured 4.1e-7
    weight = torch.randn_like(ours)
    ours_grads = torch.autograd.grad((ours * weight).sum(), qkv)
    their_grads = torch.autograd.grad((theirs * weight).sum(), qkv)
    for got, expected in zip(ours_grads, their_grads, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)  # measured 9.5e-7


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(("width", "window"), [(8, None), (12, None), (8, 4)])
@pytest.mark.parametrize("name", ON_CPU)
def test_a_bias_of_keys_is_their_share_of_the_attention(
    name: str, width: int, window: int | None, scale: float | None
) -> None:
    """A row of which there is a share m weighs m * exp(score), in value and gradient; at m = 0 (as good as) too."""
    lengths = (7, 3, 12)
    qkv = _qkv(lengths, width=width)
    shares_T = torch.linspace(0.1, 1.0, sum(lengths))
    shares_T[[2, 9, 15]] = 1e-6
    shares_T.requires_grad_()
    module = torch.nn.Module()
    module.config = SimpleNamespace(**{BACKEND_SETTING: name})
    layout = AttentionLayout(lengths, CPU, key_bias_T=shares_T.log())
    query, key, value = (t.transpose(0, 1)[None] for t in qkv)
    ours, _ = packed_attention(module, query, key, value, None, layout=layout, scaling=scale, sliding_window=window)
    assert ours.shape == (1, sum(lengths), 4, width)
    theirs = _weighted(*qkv, shares_T.double(), lengths, width**-0.5 if scale is None else scale, window)
    torch.testing.assert_close(ours[0].double(), theirs, atol=2e-6, rtol=1e-5)  # measured 7.2e-7
    weight = torch.randn_like(theirs)
    ours_grads = torch.autograd.grad((ours[0] * weight).sum(), (*qkv, shares_T))
    their_grads = torch.autograd.grad((theirs * weight).sum(), (*qkv, shares_T))
    for got, expected in zip(ours_grads, their_grads, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def _weighted(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shares_T: Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    query, key, value = (t.double() for t in (query, key, value))
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    outs, start = [], 0
    for length in lengths:
        for row in range(start, start + length):
            seen = slice(start if window is None else max(start, row + 1 - window), row + 1)
            weights_NK = torch.einsum("nh,knh->nk", query[row], key[seen] * scale).exp() * shares_T[seen]
            outs.append(torch.einsum("nk,knh->nh", weights_NK / weights_NK.sum(-1, keepdim=True), value[seen]))
        start += length
    return torch.stack(outs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ON_GPU)
def test_gpu_backends_equal_per_sequence_sdpa(name: str) -> None:
    lengths = (64, 300, 17)
    qkv = [t.detach().cuda().bfloat16().requires_grad_() for t in _qkv(lengths, width=128)]
    options = AttentionOptions(has_groups=True)
    if BACKENDS[name].lacks(qkv[0], options):
        pytest.skip(f"needs {BACKENDS[name].lacks(qkv[0], options)}")
    layout = AttentionLayout(lengths, qkv[0].device)
    outs = [BACKENDS[which].attend(*qkv, layout, options) for which in (name, "sdpa_loop")]
    torch.testing.assert_close(outs[0], outs[1], atol=1e-2, rtol=1e-2)  # bf16 (specification of performance, 1.2)
    weight = torch.randn_like(outs[0])
    grads = [torch.autograd.grad((out * weight).sum(), qkv) for out in outs]
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("new", [(1, 1, 1), (2, 3, 1), (4, 4, 4)])
def test_rows_behind_a_cache_see_their_past_and_themselves(new: tuple[int, ...]) -> None:
    """The last rows of every sample, given the cache, come out as in one pass over all rows."""
    past = (5, 2, 9)
    lengths = tuple(p + n for p, n in zip(past, new, strict=True))
    query, key, value = (t.detach() for t in _qkv(lengths))
    whole = _reference(query, key, value, lengths, 0.5)
    longest = max(lengths)
    padded = [torch.full((3, 2, longest, 8), 1e4) for _ in range(2)]  # what lies behind a sample must not be seen
    rows, start = [], 0
    for sample, length in enumerate(lengths):
        for store, source in zip(padded, (key, value), strict=True):
            store[sample, :, :length] = source[start : start + length].transpose(0, 1)
        rows += range(start + past[sample], start + length)
        start += length
    module = torch.nn.Module()
    layout = CachedLayout(past, new, CPU)
    out, _ = packed_attention(module, query[rows].transpose(0, 1)[None], *padded, None, layout=layout, scaling=0.5)
    torch.testing.assert_close(out[0].double(), whole[rows], atol=2e-6, rtol=1e-5)  # measured 2.4e-7


def test_equal_pasts_need_no_mask_when_decoding() -> None:
    assert CachedLayout((7, 7), (1, 1), CPU).mask(None) is None
    assert CachedLayout((7, 6), (1, 1), CPU).mask(None) is not None
    assert CachedLayout((7, 7), (2, 2), CPU).mask(None) is not None


def test_buckets_waste_no_more_than_they_may() -> None:
    lengths = tuple(torch.randint(1, 200, (64,), generator=torch.Generator().manual_seed(0)).tolist())
    buckets, inverse = AttentionLayout(lengths, CPU).buckets
    slots = sum(len(bucket.rows) for bucket in buckets)
    assert slots > sum(lengths) == len(inverse)
    assert len(buckets) < len(lengths)
    assert 1 - sum(lengths) / slots <= MAX_PADDING_SHARE


def _kernel(seen: dict[str, Any]) -> Callable[..., Tensor]:
    def attend(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, scale: float | None, **arguments: Any) -> Tensor:
        seen.update(arguments)
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        bounds = ends.tolist()
        pieces = [
            scaled_dot_product_attention(
                *(t[first:last].transpose(0, 1)[None] for t in (q, k, v)),
                is_causal=True,
                scale=scale,
                enable_gqa=q.shape[1] != k.shape[1],
            )[0].transpose(0, 1)
            for first, last in zip(bounds, bounds[1:], strict=False)
        ]
        return torch.cat(pieces)

    return attend


def _torch_2_10(seen: dict[str, Any]) -> Callable[..., Tensor]:
    def varlen(q, k, v, cu_q, cu_k, max_q, max_k, is_causal=False, return_aux=None):
        assert q.shape[1] == k.shape[1]
        return _kernel(seen)(q, k, v, cu_q, None, is_causal=is_causal)

    return varlen


def _torch_2_11(seen: dict[str, Any]) -> Callable[..., Tensor]:
    def varlen(q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)):
        assert q.shape[1] == k.shape[1]
        return _kernel(seen)(q, k, v, cu_q, scale, window_size=window_size)

    return varlen


def _torch_2_13(seen: dict[str, Any]) -> Callable[..., Tensor]:
    def varlen(
        q, k, v, cu_q, cu_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1), enable_gqa=False,
        seqused_k=None, block_table=None, num_splits=None,
    ):  # fmt: skip
        assert enable_gqa
        return _kernel(seen)(q, k, v, cu_q, scale, window_size=window_size, num_splits=num_splits)

    return varlen


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (_torch_2_10, {"is_causal": True}),
        (_torch_2_11, {"window_size": (-1, 0)}),
        (_torch_2_13, {"window_size": (-1, 0), "num_splits": None}),
    ],
)
def test_the_adapter_speaks_every_signature(
    signature: Callable[..., Any], told: dict[str, Any], scale: float | None
) -> None:
    lengths = LENGTHS["uneven"]
    qkv, seen = _qkv(lengths), {}
    attend = adapt_varlen(signature(seen))
    ends = AttentionLayout(lengths, CPU).cu_seqlens
    assert ends.tolist() == [0, 5, 6, 23, 39, 42]
    out = attend(*qkv, ends, max(lengths), scale)
    expected = _reference(*qkv, lengths, 1 / math.sqrt(8) if scale is None else scale)
    torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=1e-5)  # measured 4.1e-7
    assert seen == told
    if "num_splits" in told:
        with torch.no_grad():
            attend(*qkv, ends, max(lengths), scale)
        assert seen["num_splits"] == 1, "at inference answers do not depend on the batch"


def test_backends_are_chosen_by_what_they_need() -> None:
    class Fake:
        """What the choice looks at."""

        def __init__(self, kind: str, dtype: torch.dtype, width: int) -> None:
            self.device, self.dtype, self.shape = torch.device(kind), dtype, (5, 2, width)

    def chosen(kind: str, dtype: torch.dtype, width: int, dropout: float = 0.0) -> str:
        options = AttentionOptions(dropout=dropout)
        backend = choose_backend(None, Fake(kind, dtype, width), options)
        return next(name for name, other in BACKENDS.items() if other is backend)

    assert chosen("cpu", torch.float32, 64) == "sdpa_buckets"
    assert chosen("cuda", torch.bfloat16, 128) == "varlen"
    assert chosen("cuda", torch.float32, 128) == "sdpa_buckets"
    assert chosen("cuda", torch.bfloat16, 512) == "sdpa_buckets"
    assert chosen("cuda", torch.float16, 128, dropout=0.1) in ("flash_attn", "sdpa_buckets")


def test_the_user_names_a_backend(model: DpnForConditionalGeneration, training_batch: Callable[..., Any]) -> None:
    batch = training_batch()
    losses = {}
    for name in (None, *ON_CPU):
        model.set_attention_backend(name)
        losses[name] = model(**batch).loss.item()
    assert losses[None] == losses["sdpa_buckets"]
    assert losses["sdpa_loop"] == pytest.approx(losses[None], abs=2e-6)  # measured 2.4e-7
    with pytest.raises(ValueError, match="unknown attention backend 'eager'; allowed: varlen, flash_attn, sdpa_b"):
        model.set_attention_backend("eager")
    model.set_attention_backend("varlen")
    with pytest.raises(ValueError, match="'varlen' needs a CUDA device; allowed here: sdpa_buckets, sdpa_loop"):
        model(**batch)
