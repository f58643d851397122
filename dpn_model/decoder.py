"""The one loop: layer, reduce, layer, reduce ... over the base model's own decoder layers.

Shape letters: B samples, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from torch import Tensor

from dpn_model.attention.layout import AttentionLayout
from dpn_model.attention.packed import CachedLayout
from dpn_model.cache import CACHE_NAME, CacheSlots, CacheStage, PackedCache
from dpn_model.methods.contract import ReductionRecord, TokenReducer
from dpn_model.packing import PackedSequence
from dpn_model.positions import rotary_ids


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
    state = state.with_hidden(state.hidden_TD * embedding_scale(language_model))
    arguments = _layer_arguments(language_model, state, cache)
    for number, layer in enumerate(language_model.layers, start=1):
        state = state.with_hidden(layer(state.hidden_TD[None], **arguments[number - 1])[0]).injected()
        if number in reducers:
            state, record = reducers[number](state)
            records.append(record)
            arguments = _layer_arguments(language_model, state, cache)
    return state.with_hidden(language_model.norm(state.hidden_TD)), records


def embedding_scale(language_model: Any) -> float:
    """What a decoder's model multiplies all input embeddings with, pictures included: Granite's multiplier, else 1.

    Gemma's scale is in its embedding module, for words alone. What a head does to logits (`logits_scaling`,
    `logit_scale`, `final_logit_softcapping`) belongs to a decoder's own causal LM: transformers' VLMs put a plain head
    on the decoder, and so do we.
    """
    return float(getattr(language_model, "embedding_multiplier", 1.0))


def _layer_arguments(language_model: Any, state: PackedSequence, cache: PackedCache | None) -> list[dict[str, object]]:
    """Keyword arguments of every layer until the next reduction."""
    position_ids = rotary_ids(state.position_ids_T)
    if cache is not None:
        cache.open_stage(state)
    shared: dict[str, object] = {
        "position_ids": position_ids,
        CACHE_NAME: cache,
        "use_cache": cache is not None,
        "layout": AttentionLayout(state.lengths, state.hidden_TD.device),
    }
    return _with_rotary(language_model, state.hidden_TD, shared)


def _with_rotary(language_model: Any, hidden_TD: Tensor, shared: dict[str, object]) -> list[dict[str, object]]:
    """`shared` for every layer, with its rotary table: one for all, or one per kind of layer (Gemma 3, OLMo 3)."""
    rotary, x = language_model.rotary_emb, hidden_TD[None]
    if "layer_type" not in signature(rotary.forward).parameters:
        table = rotary(x, position_ids=shared["position_ids"])
        return [shared | {"position_embeddings": table}] * len(language_model.layers)
    kinds = language_model.config.layer_types
    tables = {kind: rotary(x, position_ids=shared["position_ids"], layer_type=kind) for kind in sorted(set(kinds))}
    return [shared | {"position_embeddings": tables[kind]} for kind in kinds]


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
    hidden_TD = hidden_TD * embedding_scale(language_model)
    arguments: list[dict[str, object]] = []
    stage: CacheStage | None = None
    for index, layer in enumerate(language_model.layers):
        if cache.stage(index) is not stage:
            stage = cache.stage(index)
            arguments = _cached_arguments(language_model, hidden_TD, new, cache, stage)
        hidden_TD = layer(hidden_TD[None], **arguments[index])[0]
    normed: Tensor = language_model.norm(hidden_TD)
    return normed


def _cached_arguments(
    language_model: Any, hidden_TD: Tensor, new: tuple[int, ...], cache: PackedCache, stage: CacheStage
) -> list[dict[str, object]]:
    slots = CacheSlots.behind(stage.lengths, new, hidden_TD.device)
    cache.place(slots)
    offset_T = stage.position_offset_B[slots.sample_T]
    position_ids = rotary_ids(offset_T + slots.slot_T.view(-1, *[1] * (offset_T.ndim - 1)))
    layout = CachedLayout(stage.lengths, new, hidden_TD.device)
    shared: dict[str, object] = {"position_ids": position_ids, CACHE_NAME: cache, "use_cache": True, "layout": layout}
    return _with_rotary(language_model, hidden_TD, shared)
