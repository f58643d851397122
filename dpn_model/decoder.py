"""The one loop: layer, reduce, layer, reduce ... over the base model's own decoder layers.

Shape letters: B samples, T packed tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpn_model.attention import AttentionLayout, DecodeLayout
from dpn_model.cache import PackedCache
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
        ends = torch.tensor(state.lengths, device=state.hidden_TD.device).cumsum(0) - 1
        cache.set_prefill(state.lengths, state.position_ids_T[ends] + 1)
    return {
        "position_ids": position_ids,
        "position_embeddings": language_model.rotary_emb(state.hidden_TD[None], position_ids=position_ids),
        "past_key_values": cache,
        "use_cache": cache is not None,
        "layout": AttentionLayout(state.lengths, state.hidden_TD.device),
    }


def run_decode_step(language_model: Any, hidden_BD: Tensor, cache: PackedCache) -> Tensor:
    """One new token per sample through all layers: float[B, D] in and out (after the final norm).

    Every layer has its own cache lengths, and the new token's position there follows the last one's (spec A.3, "after
    pooling, inference"): with contiguous positions, it is that length.
    """
    device = hidden_BD.device
    arguments: dict[str, object] = {}
    last_lengths: list[int] | None = None
    for index, layer in enumerate(language_model.layers):
        lengths = cache.lengths[index]
        if lengths != last_lengths:
            position_ids = rotary_ids(cache.next_positions[index])
            arguments = {
                "position_ids": position_ids,
                "position_embeddings": language_model.rotary_emb(hidden_BD[None], position_ids=position_ids),
                "past_key_values": cache,
                "use_cache": True,
                "layout": DecodeLayout([n + 1 for n in lengths], cache.longest(index), device),
            }
            last_lengths = list(lengths)
        hidden_BD = layer(hidden_BD[None], **arguments)[0]
    return language_model.norm(hidden_BD)
