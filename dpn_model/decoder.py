"""The one loop: layer, reduce, layer, reduce ... over the base model's own decoder layers.

Shape letters: B samples, T packed tokens, R rows that a patched layer runs, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from dpn_model.attention.watch import Watch
from dpn_model.cache import PackedCache
from dpn_model.cache_stages import CacheStage
from dpn_model.layers import (
    cached_arguments,
    embedding_scale,
    first_norm,
    layer_arguments,
    run_beside,
    run_cached_rows,
    run_rows,
)
from dpn_model.look_ahead import look_ahead
from dpn_model.methods.contract import LayerPatch, Parts
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.probe import ATTENTION, EMBEDDINGS, GRADIENT, NEXT_LAYER, Probe, VisionProbe
from dpn_model.methods.records import PatchRecord, ReductionRecord
from dpn_model.packing import PackedSequence
from dpn_model.riding import Riding, riding_with


@dataclass(frozen=True)
class DecoderPass:
    """What a pass left: the batch behind the final norm, and what every part did, in order of depth.

    Attributes:
        probe_macs: per sample, multiply-accumulates of everything that parts looked at.
    """

    final: PackedSequence
    reductions: tuple[ReductionRecord, ...]
    patches: tuple[PatchRecord, ...]
    probe_macs: tuple[int, ...]


def run_decoder(
    language_model: Any,
    state: PackedSequence,
    parts: Parts,
    cache: PackedCache | None = None,
    vision: VisionProbe | None = None,
    *,
    joins_ranks: bool = False,
) -> DecoderPass:
    """Prefill or training pass over a packed batch.

    Args:
        language_model: a transformers decoder with `layers`, `norm` and `rotary_emb` whose attention is `dpn_packed`.
        state: the batch, hidden states being input embeddings.
        parts: of the method.
        cache: filled when given.
        vision: what the tower showed, for reducers that look at it.
        joins_ranks: every module with weights takes part, whatever the batch holds (training does so anyway).
    """
    reducers, patches = parts.reducers, parts.patches
    layers = language_model.layers
    joins = joins_ranks or language_model.training
    is_looked_at = any(EMBEDDINGS in reducer.looks for reducer in reducers.values())
    entered = state if is_looked_at else state.with_hidden(state.hidden_TD.new_empty(0))  # of no use, and large
    reductions: list[ReductionRecord] = []
    patched: list[PatchRecord] = []
    probe_macs_B = np.zeros(state.num_samples, dtype=np.int64)
    state = state.with_hidden(state.hidden_TD * embedding_scale(language_model))
    watch, riding = Watch(-1), riding_with(state, reducers, joins)
    arguments: list[dict[str, object]] = []
    for number in range(len(layers) + 1):
        if number in patches:
            run = partial(run_rows, language_model, number - 1, state, cache, arguments, joins)
            norm = partial(first_norm, layers[number - 1])
            call = LayerCall(number, state.hidden_TD, state.lengths, run, state=state, training=joins, norm=norm)
            hidden_TD, record = patches[number](call)
            assert record is not None
            patched.append(record)
            state = state.with_hidden(hidden_TD).injected()
        elif number:
            looks = reducers[number].looks if number in reducers else frozenset()
            watch.layer, watch.with_gradient = number - 1 if ATTENTION in looks else -1, GRADIENT in looks
            state = _behind(layers[number - 1], number, state, arguments[number - 1], riding)
        if number in reducers:
            rotary = arguments[number - 1]["position_embeddings"] if number else None
            probe = _probe(
                language_model, number, state, reducers[number].looks, watch, entered, vision, rotary, riding
            )
            before, (state, reduction), riding = state, reducers[number](state, probe), None
            if cache is not None and reduction.is_forgotten:
                cache.forget(before, state)
            reductions.append(reduction)
            probe_macs_B += np.asarray(probe.macs)
        if number in reducers or not number:
            watch = Watch(-1)
            arguments = layer_arguments(language_model, state, cache, watch, riding)
    final = state.with_hidden(language_model.norm(state.hidden_TD))
    return DecoderPass(final, tuple(reductions), tuple(patched), tuple(probe_macs_B.tolist()))


def _behind(
    layer: Any, number: int, state: PackedSequence, arguments: dict[str, object], riding: Riding | None
) -> PackedSequence:
    """The batch behind a layer (1-based `number`) that all rows run, and what rides with it too."""
    hidden_TD = state.hidden_TD if riding is None else riding.joining(number, state.hidden_TD)
    hidden_TD = layer(hidden_TD[None], **arguments)[0]
    return state.with_hidden(hidden_TD if riding is None else riding.leaving(hidden_TD)).injected()


def _probe(
    language_model: Any,
    number: int,
    state: PackedSequence,
    looks: frozenset[str],
    watch: Watch,
    entered: PackedSequence,
    vision: VisionProbe | None,
    rotary: Any,
    riding: Riding | None,
) -> Probe:
    """What the reducer behind layer `number` may look at; `entered` is the batch in front of the first layer."""
    return Probe(
        number,
        state,
        watch.seen if ATTENTION in looks and number else None,
        partial(look_ahead, language_model, number, state, with_gradient=GRADIENT in looks)
        if NEXT_LAYER in looks
        else None,
        entered.rows_at(state.token_index_T) if EMBEDDINGS in looks else None,
        vision,
        entered.images,
        language_model.norm,
        rotary,
        partial(run_beside, language_model),
        None if riding is None else riding.riders,
    )


def run_cached(
    language_model: Any,
    hidden_TD: Tensor,
    new: tuple[int, ...],
    cache: PackedCache,
    patches: Mapping[int, LayerPatch],
) -> Tensor:
    """New tokens behind cached ones through all layers: float[T, D] in and out (after the final norm).

    Args:
        language_model: as in `run_decoder`.
        hidden_TD: embeddings, packed; text only, for visual tokens are reduced at the first prefill alone.
        new: tokens per sample (one each when decoding).
        cache: appended to; the caller closes the step.
        patches: by 1-based layer.

    Every layer has its own lengths, and the position of a new token there follows from them (spec A.3, "after
    pooling, inference").
    """
    hidden_TD = hidden_TD * embedding_scale(language_model)
    arguments: list[dict[str, object]] = []
    stage: CacheStage | None = None
    for index, layer in enumerate(language_model.layers):
        if index + 1 in patches:
            own = cache.stage(index)
            run = partial(run_cached_rows, language_model, index, hidden_TD, new, cache)
            call = LayerCall(index + 1, hidden_TD, new, run, past=own.lengths, norm=partial(first_norm, layer))
            hidden_TD, _ = patches[index + 1](call)
            stage = None
            continue
        if cache.stage(index) is not stage:
            stage = cache.stage(index)
            arguments = cached_arguments(language_model, hidden_TD, new, cache, stage)
        hidden_TD = layer(hidden_TD[None], **arguments[index])[0]
    normed: Tensor = language_model.norm(hidden_TD)
    return normed
