"""The base's own decoder layers, called on packed rows: all of them, or some.

Shape letters: B samples, T packed tokens, R chosen rows, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpn_model.attention.layout import AttentionLayout
from dpn_model.attention.packed import CachedLayout
from dpn_model.attention.watch import Watch, Watched
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cache_stages import CacheSlots, CacheStage
from dpn_model.cost.flops import DecoderShape, layer_macs
from dpn_model.methods.contract import joined
from dpn_model.packing import PackedSequence
from dpn_model.positions import renumbered_positions, rotary_ids
from dpn_model.riding import Riding


def embedding_scale(language_model: Any) -> float:
    """What a decoder's model multiplies all input embeddings with, pictures included: Granite's multiplier, else 1.

    Gemma's scale is in its embedding module, for words alone. What a head does to logits (`logits_scaling`,
    `logit_scale`, `final_logit_softcapping`) belongs to a decoder's own causal LM: transformers' VLMs put a plain head
    on the decoder, and so do we.
    """
    return float(getattr(language_model, "embedding_multiplier", 1.0))


def layer_arguments(
    language_model: Any,
    state: PackedSequence,
    cache: PackedCache | None,
    watch: Watch | None = None,
    riding: Riding | None = None,
) -> list[dict[str, object]]:
    """Keyword arguments of every layer until the next reduction; `riding`: what they run beside the batch."""
    if cache is not None:
        cache.open_stage(state)
    positions_T, riders = state.position_ids_T, None
    if riding is not None:
        positions_T, riders = torch.cat([positions_T, riding.position_ids_R]), riding.riders
    shared: dict[str, object] = {
        "position_ids": rotary_ids(positions_T),
        CACHE_NAME: cache,
        "use_cache": cache is not None,
        "layout": AttentionLayout(state.lengths, state.hidden_TD.device, watch, riders, state.key_bias_T),
    }
    return with_rotary(language_model, state.hidden_TD, shared)


def with_rotary(language_model: Any, hidden_TD: Tensor, shared: dict[str, object]) -> list[dict[str, object]]:
    """`shared` for every layer, with its rotary table: one for all, or one per kind of layer (Gemma 3, OLMo 3)."""
    rotary, x = language_model.rotary_emb, hidden_TD[None]
    if "layer_type" not in signature(rotary.forward).parameters:
        table = rotary(x, position_ids=shared["position_ids"])
        return [shared | {"position_embeddings": table}] * len(language_model.layers)
    kinds = language_model.config.layer_types
    tables = {kind: rotary(x, position_ids=shared["position_ids"], layer_type=kind) for kind in sorted(set(kinds))}
    return [shared | {"position_embeddings": tables[kind]} for kind in kinds]


def cached_arguments(
    language_model: Any, hidden_TD: Tensor, new: tuple[int, ...], cache: PackedCache, stage: CacheStage
) -> list[dict[str, object]]:
    """Keyword arguments of the layers of one stage, for `new` rows per sample behind what they hold."""
    slots = CacheSlots.behind(stage.lengths, new, hidden_TD.device)
    cache.place(slots)
    offset_T = stage.position_offset_B[slots.sample_T]
    position_ids = rotary_ids(offset_T + slots.slot_T.view(-1, *[1] * (offset_T.ndim - 1)))
    layout = CachedLayout(stage.lengths, new, hidden_TD.device)
    shared: dict[str, object] = {"position_ids": position_ids, CACHE_NAME: cache, "use_cache": True, "layout": layout}
    return with_rotary(language_model, hidden_TD, shared)


def first_norm(layer: Any, hidden_TD: Tensor) -> Tensor:
    """float[T, D]: rows behind the norm in front of a layer's attention; OLMo 2 and its like have none."""
    norms = (getattr(layer, name, None) for name in ("input_layernorm", "attention_layernorm"))
    norm = next((one for one in norms if one is not None), None)
    return hidden_TD if norm is None else norm(hidden_TD)


def run_rows(
    language_model: Any,
    index: int,
    state: PackedSequence,
    cache: PackedCache | None,
    arguments: list[dict[str, object]],
    joins: bool,
    rows: np.ndarray | None,
    renumber: bool = False,
) -> Tensor:
    """Layer `index` (0-based) over some rows of a batch in prefill or training: float[R, D]."""
    layer = language_model.layers[index]
    if rows is None:
        whole: Tensor = layer(state.hidden_TD[None], **arguments[index])[0]
        return whole
    lengths = rows_per_sample(rows, state.lengths)
    places = torch.from_numpy(rows).to(state.hidden_TD.device)
    chosen = state.hidden_TD[places]
    if not len(rows):
        if cache is not None:
            with cache.only(state, lengths, renumber):
                pass
        if not joins:
            return chosen
        # The layer's weights take part all the same, on one row that nobody reads.
        blank = state.with_hidden(state.hidden_TD.new_zeros(1, state.hidden_TD.shape[1]))
        positions = state.position_ids_T[:1]
        return joined(chosen, [_run_alone(language_model, index, blank.hidden_TD, positions, (1,), None)])
    positions = renumbered_positions(state.position_ids_T, lengths, ()) if renumber else state.position_ids_T[places]
    if cache is None:
        return _run_alone(language_model, index, chosen, positions, lengths, None)
    with cache.only(state, lengths, renumber):
        return _run_alone(language_model, index, chosen, positions, lengths, cache)


def _run_alone(
    language_model: Any,
    index: int,
    hidden_RD: Tensor,
    position_ids_R: Tensor,
    lengths: tuple[int, ...],
    cache: PackedCache | None,
) -> Tensor:
    """One layer over rows that attend to each other within their sample; samples without a row are left out."""
    shared: dict[str, object] = {
        "position_ids": rotary_ids(position_ids_R),
        CACHE_NAME: cache,
        "use_cache": cache is not None,
        "layout": AttentionLayout([length for length in lengths if length], hidden_RD.device),
    }
    arguments = with_rotary(language_model, hidden_RD, shared)[index]
    out: Tensor = language_model.layers[index](hidden_RD[None], **arguments)[0]
    return out


def run_beside(
    language_model: Any, state: PackedSequence, layers: Sequence[Any]
) -> tuple[PackedSequence, Watched, list[int]]:
    """Copied layers, one after the other, over a batch that the decoder goes on with as it was.

    Returns:
        The batch behind the last one, that one's queries and keys, and multiply-accumulates per sample.
    """
    watch = Watch(layers[-1].self_attn.layer_idx)
    arguments = layer_arguments(language_model, state, None, watch)
    for layer in layers:
        hidden_TD = layer(state.hidden_TD[None], **arguments[layer.self_attn.layer_idx])[0]
        state = state.with_hidden(hidden_TD).injected()
    assert watch.seen is not None
    shape = DecoderShape.from_config(language_model.config)
    return state, watch.seen, [len(layers) * layer_macs(length, shape, "swiglu") for length in state.lengths]


def run_cached_rows(
    language_model: Any,
    index: int,
    hidden_TD: Tensor,
    new: tuple[int, ...],
    cache: PackedCache,
    rows: np.ndarray | None,
    renumber: bool = False,
) -> Tensor:
    """Layer `index` (0-based) over some of the new rows, each behind what its sample has stored there: float[R, D].

    A chosen row stands where it stands in the other layers: rows of its step that were left out count; not in a layer
    whose rows were renumbered in the prefill.
    """
    stage = cache.stage(index)
    rows = np.arange(sum(new)) if rows is None else rows
    stage.added = np.isin(np.arange(sum(new)), rows)
    places = torch.from_numpy(rows).to(hidden_TD.device)
    if not len(rows):
        return hidden_TD[places]
    lengths = rows_per_sample(rows, new)
    slots = CacheSlots.behind(stage.lengths, lengths, hidden_TD.device)
    cache.place(slots)
    whole = slots.slot_T
    if not stage.is_renumbered:
        whole = CacheSlots.behind(stage.lengths, new, hidden_TD.device).slot_T[places]
    offset_R = stage.position_offset_B[slots.sample_T]
    position_ids = rotary_ids(offset_R + whole.view(-1, *[1] * (offset_R.ndim - 1)))
    samples = [sample for sample, length in enumerate(lengths) if length]
    layout = CachedLayout(
        [stage.lengths[sample] for sample in samples],
        [lengths[sample] for sample in samples],
        hidden_TD.device,
        samples,
    )
    shared: dict[str, object] = {"position_ids": position_ids, CACHE_NAME: cache, "use_cache": True, "layout": layout}
    arguments = with_rotary(language_model, hidden_TD[places], shared)[index]
    out: Tensor = language_model.layers[index](hidden_TD[places][None], **arguments)[0]
    return out


def rows_per_sample(rows: np.ndarray, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Of packed rows int64[R], how many are of each sample."""
    sample = np.searchsorted(np.cumsum(lengths), rows, side="right")
    return tuple(np.bincount(sample, minlength=len(lengths)).tolist())
