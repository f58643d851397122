"""One spelling for torch's variable-length attention, whose signature changed from release to release.

torch 2.10 takes `is_causal`; later ones `window_size` ((-1, 0) is causal) and `scale`; from 2.12 on `enable_gqa` and
`num_splits` are there too (specification of performance, 1.1). The signature is read once.

Shape letters: B samples, T packed tokens, N heads, H head width.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

#: (query, key, value float[T, N, H], cu_seqlens int32[B + 1], longest sample, scale of the scores, window) ->
#: float[T, N, H]; the window is rows (before, behind) that a row may look at, (-1, 0) for all before
CausalVarlen = Callable[[Tensor, Tensor, Tensor, Tensor, int, float | None, tuple[int, int]], Tensor]


@lru_cache(maxsize=1)
def load_varlen() -> CausalVarlen:
    """torch's kernel behind `adapt_varlen`. It runs on CUDA, in float16 and bfloat16, heads of at most 256."""
    from torch.nn.attention.varlen import varlen_attn

    return adapt_varlen(varlen_attn)


def adapt_varlen(kernel: Callable[..., Any]) -> CausalVarlen:
    """Causal self-attention by any of the kernel's signatures."""
    known = inspect.signature(kernel).parameters

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        ends: Tensor,
        longest: int,
        scale: float | None,
        window: tuple[int, int] = (-1, 0),
    ) -> Tensor:
        if "window_size" not in known and window != (-1, 0):
            raise ValueError("this release of torch has no windows in varlen_attn; choose the backend sdpa_buckets")
        arguments: dict[str, Any] = {"window_size": window} if "window_size" in known else {"is_causal": True}
        if scale is not None and "scale" in known:
            arguments["scale"] = scale
        elif scale is not None:  # the kernel divides by sqrt(H)
            query = query * (scale * math.sqrt(query.shape[-1]))
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and "enable_gqa" in known:
            arguments["enable_gqa"] = True
        elif groups > 1:
            key, value = (heads.repeat_interleave(groups, dim=1) for heads in (key, value))
        if "num_splits" in known and not torch.is_grad_enabled():
            arguments["num_splits"] = 1  # at inference a sample's answer does not depend on its batch
        out: Tensor = kernel(query, key, value, ends, ends, longest, longest, **arguments)
        return out

    return attend
