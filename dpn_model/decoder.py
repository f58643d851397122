"""The one loop: layer, reduce, layer, reduce ... over the base model's own decoder layers.

Shape letters: B samples, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dpn_model.attention import CachedLayout
from dpn_model.attention_layout import AttentionLayout
from dpn_model.cache import CACHE_NAME, CacheSlots, CacheStage, PackedCache
from dpn_model.packing import PackedSequence
from dpn_model.positions import rotary_ids
from dpn_model.reduction import ReductionRecord, TokenReducer


def run_decoder(
    language_model: Any,
    state: PackedSequence,
    reducers: Mapping[int, TokenReducer],
    cache: PackedCache | None = None,
) -> tuple[PackedSequence, list[ReductionRecord]]:
    """Prefill or training pass over a packed batch.

    Args:
        language_model: a transformers decoder with `layers`, `norm` and `rotary_emb` whose attention is `dpn_packed`.
        state: the batch, hidden states being input embeddings.
        reducers: method per site, keyed by the 1-based layer after which it acts.
        cache: filled when given.

    Returns:
        The batch after the final norm, and one record per site in order.
    """
    records: list[ReductionRecord] = []
    arguments = _layer_arguments(language_model, state, cache)
    for number, layer in enumerate(language_model.layers, start=1):
        state = state.with_hidden(layer(state.hidden_TD[None], **arguments)[0])
        if number in reducers:
            state, record = reducers[number](state)
            records.append(record)
            arguments = _layer_arguments(language_model, state, cache)
    return state.with_hidden(language_model.norm(state.hidden_TD)), records


def _layer_arguments(language_model: Any, state: PackedSequence, cache: PackedCache | None) -> dict[str, object]:
    """Keyword arguments shared by all layers between two reductions."""
    position_ids = rotary_ids(state.position_ids_T)
    if cache is not None:
        cache.open_stage(state)
    return {
        "position_ids": position_ids,
        "position_embeddings": language_model.rotary_emb(state.hidden_TD[None], position_ids=position_ids),
        CACHE_NAME: cache,
        "use_cache": cache is not None,
        "layout": AttentionLayout(state.lengths, state.hidden_TD.device),
    }


def run_cached(language_model: Any, hidden_TD: Tensor, new: tuple[int, ...], cache: PackedCache) -> Tensor:
    """New tokens behind cached ones through all layers: float[T, D] in and out (after the final norm).

    Args:
        language_model: as in `run_decoder`.
        hidden_TD: embeddings, packed; text only, for visual tokens are reduced at the first prefill alone.
        new: tokens per sample (one each when decoding).
        cache: appended to; the caller closes the step.

    Every layer has its own lengths, and the position of a new token there follows from them (spec A.3, "after
    pooling, inference").
    """
    arguments: dict[str, object] = {}
    stage: CacheStage | None = None
    for index, layer in enumerate(language_model.layers):
        if cache.stage(index) is not stage:
            stage = cache.stage(index)
            arguments = _cached_arguments(language_model, hidden_TD, new, cache, stage)
        hidden_TD = layer(hidden_TD[None], **arguments)[0]
    normed: Tensor = language_model.norm(hidden_TD)
    return normed


def _cached_arguments(
    language_model: Any, hidden_TD: Tensor, new: tuple[int, ...], cache: PackedCache, stage: CacheStage
) -> dict[str, object]:
    slots = CacheSlots.behind(stage.lengths, new, hidden_TD.device)
    cache.place(slots)
    offset_T = stage.position_offset_B[slots.sample_T]
    position_ids = rotary_ids(offset_T + slots.slot_T.view(-1, *[1] * (offset_T.ndim - 1)))
    return {
        "position_ids": position_ids,
        "position_embeddings": language_model.rotary_emb(hidden_TD[None], position_ids=position_ids),
        CACHE_NAME: cache,
        "use_cache": True,
        "layout": CachedLayout(stage.lengths, new, hidden_TD.device),
    }
