"""Looking ahead: queries and keys of a layer that has not run yet, no more of them than somebody asked for.

Shape letters: B samples, T packed tokens, R rows that ask, D model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.attention.layout import AttentionLayout
from dpn_model.attention.watch import Watch, Watched
from dpn_model.cache import CACHE_NAME
from dpn_model.layers import first_norm, rows_per_sample, with_rotary
from dpn_model.packing import PackedSequence
from dpn_model.positions import rotary_ids

_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def look_ahead(
    language_model: Any,
    index: int,
    state: PackedSequence,
    rows: np.ndarray | None,
    found: Watched | None = None,
    *,
    with_gradient: bool = False,
) -> tuple[Watched, np.ndarray]:
    """Keys of layer `index` (0-based) for a batch in front of it, and queries of some of its rows.

    The layer's own norm and attention module run, without the attention itself and without what nobody asked for:
    values, output, queries of other rows. A module that projects all at once (Phi-3) does so, and is billed for it.

    Args:
        rows: int64[R] on the host, ascending; None: all.
        found: what an earlier call gave, whose keys are taken over.
        with_gradient: where gradients are wanted at all, these are some that are.

    Returns:
        What was found, and int64[B]: multiply-accumulates spent on it.
    """
    layer = language_model.layers[index]
    look = partial(_look, language_model, index)
    lengths, width = np.asarray(state.lengths), state.hidden_TD.shape[1]
    with torch.set_grad_enabled(with_gradient and torch.is_grad_enabled()):
        hidden_TD = first_norm(layer, state.hidden_TD)
        if not hasattr(layer.self_attn, "k_proj"):
            seen = look(hidden_TD, state.position_ids_T, state.lengths, {"qkv_proj"})
            return seen, lengths * width * (_size(seen.query_TNH) + 2 * _size(seen.key_TNH))
        if rows is None and found is None:
            seen = look(hidden_TD, state.position_ids_T, state.lengths, {"q_proj", "k_proj"})
            return seen, lengths * width * (_size(seen.query_TNH) + _size(seen.key_TNH))
        spent_B = np.zeros(state.num_samples, dtype=np.int64)
        if found is None:
            found = look(hidden_TD, state.position_ids_T, state.lengths, {"k_proj"})
            spent_B += lengths * width * _size(found.key_TNH)
        asking = np.arange(len(hidden_TD)) if rows is None else rows
        places = torch.from_numpy(asking).to(hidden_TD.device)
        queries = look(hidden_TD[places], state.position_ids_T[places], (len(asking),), {"q_proj"}).query_TNH
    spent_B += np.asarray(rows_per_sample(asking, state.lengths)) * width * _size(queries)
    return replace(found, query_TNH=queries, query_rows=rows), spent_B


def _look(
    language_model: Any, index: int, hidden_RD: Tensor, position_ids_R: Tensor, lengths: tuple[int, ...], runs: set[str]
) -> Watched:
    """What the attention of a layer is given for some rows, of its projections only `runs` being worked out."""
    watch = Watch(index, only_look=True)
    shared: dict[str, object] = {
        "position_ids": rotary_ids(position_ids_R),
        CACHE_NAME: None,
        "use_cache": False,
        "layout": AttentionLayout(lengths, hidden_RD.device, watch),
    }
    attention = language_model.layers[index].self_attn
    with _silent(attention, [name for name in _PROJECTIONS if name not in runs and hasattr(attention, name)]):
        arguments = with_rotary(language_model, hidden_RD, shared)[index]
        attention(hidden_states=hidden_RD[None], attention_mask=None, **arguments)
    assert watch.seen is not None
    return watch.seen


@contextmanager
def _silent(attention: Any, names: list[str]) -> Iterator[None]:
    """Some projections give zeros, for nothing. On the instance, as the modules are the base's own.

    Zeros of one head will do, and spare what turns and copies them: every module splits heads by their width. Where an
    attention has modules of its own between (a norm over all heads), they are as wide as it expects.
    """
    modules = [getattr(attention, name) for name in names]
    earlier = [module.__dict__.get("forward") for module in modules]
    is_plain = {name for name, _ in attention.named_children()} <= set(_PROJECTIONS)
    for module in modules:
        module.forward = partial(_zeros, attention.head_dim if is_plain else module.out_features)
    try:
        yield
    finally:
        for module, forward in zip(modules, earlier, strict=True):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def _zeros(width: int, hidden: Tensor) -> Tensor:
    return hidden.new_zeros(*hidden.shape[:-1], width)


def _size(heads_TNH: Tensor) -> int:
    return heads_TNH.shape[1] * heads_TNH.shape[2]
