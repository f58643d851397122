"""FastV by numbers worked out by hand (spec peer-methods 12), and what went wrong in public code (15)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.fastv.reducer import FastV
from dpn_model.methods.fastv.spec import SPEC, FastVSettings
from tests.model.methods.packed_states import (
    Shown,
    alone,
    cached_and_whole,
    kept_rows,
    next_positions,
    prefilled,
    state_of,
)

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
SCORES = [0.05, 0.30, 0.10, 0.25, 0.02, 0.20, 0.01, 0.07]


@pytest.mark.parametrize(("positions", "position"), [("keep", 16), ("contiguous", 12)])
def test_kept_sequence_and_the_next_tokens_position(positions: str, position: int) -> None:
    state = state_of((5, 8, 3))
    after, record = FastV(2, FastVSettings(keep=0.5, positions=positions))(state, Shown(state, [SCORES]))
    assert kept_rows(state, after) == [0, 1, 2, 3, 4, 6, 7, 8, 10, 13, 14, 15]
    assert next_positions(after) == [position]
    assert (record.tokens_in, record.tokens_out, record.choices) == ((8,), (4,), ("4",))
    wanted = kept_rows(state, after) if positions == "keep" else list(range(12))
    assert after.position_ids_T.tolist() == wanted


def test_heads_are_averaged() -> None:
    state = state_of((1, 4, 1))
    reducer = FastV(2, FastVSettings(keep=2))
    probe = Shown(state, [[[0.1, 0.4, 0.2, 0.1], [0.3, 0.1, 0.3, 0.1]]])
    torch.testing.assert_close(reducer.scores(state, probe)[0], torch.tensor([0.2, 0.25, 0.25, 0.1]))
    assert kept_rows(state, reducer(state, probe)[0]) == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("dropped", "rounded", "floored"), [(0.5, 288, 288), (0.6, 230, 230), (0.75, 144, 144), (0.9, 58, 57)]
)
def test_counts_of_576(dropped: float, rounded: int, floored: int) -> None:
    keep = 1 - dropped
    assert FastVSettings(keep=keep).kept(576) == rounded
    assert FastVSettings(keep=keep, rounding="floor").kept(576) == floored


@pytest.mark.parametrize("positions", ["keep", "contiguous"])
def test_two_samples_in_one_packing(positions: str) -> None:
    state = state_of((3, 4, 2), (3, 4, 3))
    scores = [[0.1, 0.4, 0.2, 0.3], [0.4, 0.1, 0.2, 0.3]]
    after, _ = FastV(2, FastVSettings(keep=0.5, positions=positions))(state, Shown(state, scores))
    assert after.cu_seqlens().tolist() == [0, 7, 15]
    assert after.token_index_T.tolist() == [0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 18]
    kept = [0, 1, 2, 4, 6, 7, 8], [0, 1, 2, 3, 6, 7, 8, 9]
    wanted = [*kept[0], *kept[1]] if positions == "keep" else [*range(7), *range(8)]
    assert after.position_ids_T.tolist() == wanted
    assert next_positions(after) == ([9, 10] if positions == "keep" else [7, 8])


def test_a_longer_system_prompt_moves_no_choice() -> None:
    for before in (5, 9, 36):
        state = state_of((before, 8, 3))
        after, _ = FastV(2, FastVSettings())(state, Shown(state, [SCORES]))
        visual = [row - before for row in kept_rows(state, after) if 0 <= row - before < 8]
        assert visual == [1, 2, 3, 5]


@torch.no_grad()
def test_every_layer_holds_its_own_keys_and_as_many_as_declared(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method(Method("fastv", sites=[3], keep=0.25))
    batch = prompt_batch(QUESTIONS)
    cache = prefilled(model, batch)
    text = model.last_routing.text_tokens
    for layer in range(8):
        visual = 64 if layer < 3 else 16
        assert cache.stage(layer).lengths == tuple(count + visual for count in text)
    for one, other in zip(cache._keys[3:], cache._keys[4:], strict=False):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("settings", [{}, {"query": "text", "positions": "contiguous"}, {"query": "all"}])
def test_decoding_behind_the_cache_is_the_whole_pass_under_the_same_choice(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, settings: dict[str, str]
) -> None:
    model.configure_method(Method("fastv", keep=0.25, **settings))
    step, whole = cached_and_whole(model, alone(prompt_batch(QUESTIONS), 0))
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "mean", "total"),
    [
        ({"sites": (2,), "keep": 0.5}, 306, 2.0075),
        ({"sites": (3,), "keep": 0.4}, 262.4, 1.7203),
        ({"sites": (3,), "keep": 0.25}, 184.5, 1.2079),
    ],
)
def test_tokens_and_cost_of_the_published_settings(settings: dict, mean: float, total: float) -> None:
    shape = base_shape("llava-1.5-7b")
    planned = SPEC.plan(FastVSettings(**settings), shape, 0).cheapest
    assert planned.mean_visual_tokens() == pytest.approx(mean, abs=0.05)
    assert planned.prefill(shape.decoder, "swiglu").total / 1e12 == pytest.approx(total, abs=6e-5)


def test_one_layer_alone() -> None:
    with pytest.raises(ValueError, match=r"sites = \[2, 4\]: fastv drops once; allowed: one layer"):
        FastVSettings(sites=(2, 4))
