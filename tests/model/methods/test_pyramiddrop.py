"""PyramidDrop by numbers worked out by hand (spec peer-methods 12), and what went wrong in public code (15)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.pyramiddrop.reducer import PyramidDrop, build
from dpn_model.methods.pyramiddrop.spec import SPEC, PyramidDropSettings
from dpn_model.packing import PackedSequence
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
SHAPE = base_shape("llava-1.5-7b")


@pytest.mark.parametrize(
    ("ratio", "counts", "total"),
    [(0.5, [576, 288, 144, 72], 1.7774), (0.4, [576, 230, 92, 36], 1.5380), (0.6, [576, 345, 207, 124], 2.0603)],
)
def test_counts_and_cost_of_the_published_ratios(ratio: float, counts: list[int], total: float) -> None:
    settings = PyramidDropSettings(ratio=ratio)
    assert settings.resolve_sites(32) == (8, 16, 24)
    planned = SPEC.plan(settings, SHAPE, 0).cheapest
    assert list(planned.visual_tokens) == counts
    assert planned.prefill(SHAPE.decoder, "swiglu").total / 1e12 == pytest.approx(total, abs=6e-5)
    reducers = build(settings, Host(32, 4096)).reducers.values()
    assert [one.count(576, now) for one, now in zip(reducers, counts, strict=False)] == counts[1:]


def test_its_overhead_is_small() -> None:
    """A target of the project: what choosing costs is at most 5% of the forward pass."""
    planned = SPEC.plan(PyramidDropSettings(), SHAPE, 60).cheapest
    rows = [576 + 60, 288 + 60, 144 + 60]
    assert planned.macs == {"probe": sum(4096**2 * (n + 1) + 4096 * n for n in rows)}
    assert planned.macs["probe"] < 0.011 * planned.prefill(SHAPE.decoder, "swiglu").total


def drop_all(state: PackedSequence, settings: PyramidDropSettings) -> list[PackedSequence]:
    """The batch behind every site, later tokens of a picture being looked at more."""
    found = [state]
    for reducer in build(settings, Host(32, 4096)).reducers.values():
        scores = [range(image.num_tokens) for image in found[-1].images]
        found.append(reducer(found[-1], Shown(found[-1], scores, state))[0])
    return found


@pytest.mark.parametrize(("positions", "behind"), [("contiguous", [636, 348, 204, 132]), ("keep", [636] * 4)])
def test_every_stage_has_its_own_decode_position(positions: str, behind: list[int]) -> None:
    states = drop_all(state_of((35, 576, 25)), PyramidDropSettings(positions=positions))
    assert [next_positions(state) for state in states] == [[position] for position in behind]
    assert kept_rows(states[0], states[3]) == [*range(35), *range(35 + 504, 636)]


def test_unequal_samples_keep_what_they_would_alone() -> None:
    """The authors rebuild their mask from the old length: samples of a batch then see the wrong rows."""
    samples = (3, 8, 2), (9, 8, 5), (4, 0, 3)
    together = drop_all(state_of(*samples), PyramidDropSettings())
    for number, sample in enumerate(samples):
        single = drop_all(state_of(sample), PyramidDropSettings())
        for batch, one in zip(together, single, strict=True):
            assert kept_rows(together[0], batch, number) == kept_rows(single[0], one)
            assert next_positions(batch)[number] == next_positions(one)[0]


@torch.no_grad()
def test_ranks_by_the_layer_behind_the_site(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    """The layer runs on all tokens in the dense model: what its last row looked at there is what ranks here."""
    batch = alone(prompt_batch(QUESTIONS), 0)
    model.configure_method(Method("fastv", sites=[4], keep=0.25))
    model(**batch)
    seen: dict[str, Tensor] = {}
    for name in ("fastv", "pyramiddrop"):
        settings = {"sites": [4], "keep": 0.25} if name == "fastv" else {"sites": [3], "ratios": [0.25]}
        model.configure_method(Method(name, **settings))
        (reducer,) = model.parts.reducers.values()
        reducer.register_forward_hook(lambda one, given, out, name=name: seen.update({name: out[0].token_index_T}))
        model(**batch)
    assert torch.equal(seen["fastv"], seen["pyramiddrop"])


def test_every_turn_ranks_in_training(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method(Method("pyramiddrop"))
    model.train()
    asked = []
    first: PyramidDrop = model.parts.reducers[2]
    first.register_forward_hook(lambda one, given, out: asked.append(given[1].next_attention()[2].shape[1]))
    model(**training_batch()).loss.backward()
    assert asked == [2]


@torch.no_grad()
def test_every_layer_holds_as_many_keys_as_declared(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method(Method("pyramiddrop"))
    cache = prefilled(model, prompt_batch(QUESTIONS))
    text = model.last_routing.text_tokens
    for layer, visual in enumerate([64, 64, 32, 32, 16, 16, 8, 8]):
        assert cache.stage(layer).lengths == tuple(count + visual for count in text)


@pytest.mark.parametrize("positions", ["contiguous", "keep"])
def test_decoding_behind_the_cache_is_the_whole_pass_under_the_same_choice(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, positions: str
) -> None:
    model.configure_method(Method("pyramiddrop", positions=positions))
    step, whole = cached_and_whole(model, alone(prompt_batch(QUESTIONS), 0))
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


def test_counts_are_of_what_entered_even_behind_a_smaller_picture() -> None:
    drop = PyramidDrop(2, "contiguous", 0.5)
    assert [drop.count(576, now) for now in (576, 300, 100)] == [288, 288, 100]
    assert PyramidDrop(2, "contiguous", 0.01).count(64, 64) == 1


def test_shares_by_site_are_told_in_the_order_of_the_sites() -> None:
    settings = PyramidDropSettings(sites=(16, 8), ratios=(0.2, 0.6))
    assert settings.shares(32) == {8: 0.6, 16: 0.2}
    with pytest.raises(ValueError, match="what was dropped cannot come back: none may grow"):
        replace(settings, ratios=(0.6, 0.2)).shares(32)
    with pytest.raises(ValueError, match=r"ratios has 3 entries; sites = \[16, 8\] needs 2"):
        replace(settings, ratios=(0.6, 0.2, 0.1)).shares(32)
    with pytest.raises(ValueError, match=r"ratios = .*it must be above 0 and at most 1"):
        PyramidDropSettings(ratios=(0.5, 0.0, 0.0))


@pytest.mark.parametrize("share", [192 / 576, 270 / 576])
def test_its_ratio_turns_its_cost(share: float) -> None:
    found = at_budget(SPEC, PyramidDropSettings(), SHAPE, share)
    assert math.isclose(share_of(SPEC, found, SHAPE), share, abs_tol=1 / 576)


def test_parts_are_one_drop_a_site() -> None:
    parts = build(PyramidDropSettings(), Host(8, 96))
    assert isinstance(parts, Parts)
    assert list(parts.reducers) == [2, 4, 6]
