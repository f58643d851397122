"""Rows that ride beside a batch: they see the prompt and nobody sees them, whatever attention runs the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.attention.riders import Riders
from dpn_model.attention.watch import Watch
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.layers import layer_arguments
from dpn_model.methods.contract import LayerPatch, Parts, TokenReducer
from dpn_model.methods.instruction import prompt_end
from dpn_model.methods.probe import Probe
from dpn_model.packing import ImageSpan, PackedSequence
from dpn_model.positions import renumbered_positions
from tests.model.methods.method_cases import Case
from tests.model.methods.packed_states import state_of
from tests.model.methods.subject import PICTURE, TEXT, TURNS, Sample, Subject

MakeBatch = Callable[..., dict[str, Tensor]]
SITE = 6
NAME: dict[str, Any] = {"name": "glimpse_prune", "width": 32}


@contextmanager
def looked(model: DpnForConditionalGeneration) -> Iterator[list[list[Tensor]]]:
    """What the riders of every pass look at."""
    found: list[list[Tensor]] = []
    hook = model.parts.reducers[SITE].register_forward_pre_hook(
        lambda module, given: found.append(given[1].rider_attention()) if given[0].images else None
    )
    yield found
    hook.remove()


def reference(model: DpnForConditionalGeneration, entered: PackedSequence) -> Tensor:
    """The same for one sample, where the row is the last of the sample itself, as the authors have it."""
    decoder, embedded = model.model.language_model, model.parts.reducers[SITE].rider()
    rows, length = len(entered.hidden_TD), (len(entered.hidden_TD) + 1,)
    hidden_TD = torch.cat([entered.hidden_TD, torch.zeros_like(embedded[:1])])
    state = replace(
        entered,
        hidden_TD=hidden_TD,
        kind_T=torch.zeros(*length, dtype=torch.int8),
        token_index_T=torch.arange(*length),
        position_ids_T=renumbered_positions(entered.position_ids_T, length, ()),
        lengths=length,
        images=(),
    )
    watch = Watch(SITE - 1)
    arguments = layer_arguments(decoder, state, None, watch)
    for number, layer in enumerate(decoder.layers[:SITE]):
        hidden_TD = torch.cat([hidden_TD[:rows], hidden_TD[rows:] + embedded[number]])
        hidden_TD = layer(hidden_TD[None], **arguments[number])[0]
    assert watch.seen is not None
    return watch.seen.rows_of_attention(0, rows + 1, torch.tensor([rows]).numpy())[:, 0].log()


@torch.no_grad()
@pytest.mark.parametrize("backend", ["sdpa_buckets", "sdpa_loop"])
def test_a_rider_is_one_more_row_behind_the_prompt(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, backend: str
) -> None:
    model.configure_method(NAME)
    model.set_attention_backend(backend)
    questions = ["is it", "what colour is it ?"]
    with looked(model) as found:
        model(**prompt_batch(questions))
    for number in range(2):
        batch = prompt_batch(questions)
        kept = batch["attention_mask"][number].bool()
        packed = model.pack(batch["input_ids"][number, kept][None], None, batch["pixel_values"][number][None], {})
        torch.testing.assert_close(found[0][number], reference(model, packed.state), atol=1e-5, rtol=1e-5)


def test_a_window_hides_what_lies_behind_it() -> None:
    riders = Riders(9, (0, 4), (4, 3), torch.device("cpu"))
    rows, is_seen = riders._looked_at(None)
    assert rows.tolist() == [[0, 1, 2, 3, 9], [4, 5, 6, 10, 10]]
    assert is_seen.int().tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert riders._looked_at(2)[1].int().tolist() == [[0, 0, 0, 1, 1], [0, 0, 1, 1, 0]]


@pytest.fixture
def subject(processor: Any) -> Subject:
    return Subject.made("glimpse_prune", Case({"width": 32}), processor)


@torch.no_grad()
def test_a_rider_sees_no_answer(subject: Subject) -> None:
    other: Sample = ([("<image>\nis there ?", "two"), ("what colour is it ?", "blue")], [1])
    with looked(subject.model) as found:
        one, two = (subject.model(**subject.answered(PICTURE, TEXT, turns)).routing for turns in (TURNS, other))
        prompt = subject.model(**subject.prompts(PICTURE, TEXT, TURNS)).routing
    for sample in range(2):
        torch.testing.assert_close(found[0][sample], found[1][sample])
        torch.testing.assert_close(found[0][sample], found[2][sample], atol=1e-5, rtol=1e-5)
    routes = [[routing.route(sample) for sample in range(3)] for routing in (one, two, prompt)]
    assert routes[0] == routes[1] == routes[2]


def test_a_prompt_ends_behind_the_question_that_follows_the_last_picture() -> None:
    state = state_of((2, 3, 7), (4, 0, 0))
    assert prompt_end(state, 0) == 12
    state = replace(state, asking_rows_R=state.asking_rows_R[[0, 0, 0, 1]])
    state.asking_rows_R[:] = [6, 8, 11, 15]
    assert prompt_end(state, 0) == 7
    later = replace(state, images=(*state.images, ImageSpan(0, 9, 1, 2)))  # behind the first answers
    assert prompt_end(later, 0) == 12


@torch.no_grad()
def test_layers_up_to_the_site_forget_what_is_dropped(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method({**NAME, "max_keep": 9.0})
    batch, more = prompt_batch(["is it", "what colour is it ?"]), torch.tensor([[9, 10], [9, 11]])
    caches, steps = {}, {}
    for kept in ("whole", "pruned"):
        model.parts.reducers[SITE].settings = replace(model.parts.reducers[SITE].settings, early_cache=kept)
        cache = caches[kept] = PackedCache()
        routing = model(**batch, **{CACHE_NAME: cache}).routing
        text, left = routing.text_tokens, [int(routing.route(sample)[0]) for sample in range(2)]
        early = left if kept == "pruned" else (64, 64)
        for layer in range(8):
            held = early if layer < SITE else left
            assert cache.stage(layer).lengths == tuple(a + b for a, b in zip(held, text, strict=True))
        bytes_held = [group.tokens for group in routing.kv_groups(0)]
        assert bytes_held[-1] == left[0] + text[0]
        assert bytes_held[0] == early[0] + text[0]
        stage = cache.stage(0)
        behind = (stage.position_offset_B + torch.tensor(stage.lengths)).tolist()
        assert behind == [64 + count for count in text], "a new token stands where it stood"
        steps[kept] = model(input_ids=more, **{CACHE_NAME: cache}).logits
    assert steps["pruned"].isfinite().all()
    assert not torch.allclose(steps["pruned"], steps["whole"])
    kept_rows = caches["pruned"]._keys[2][0, :, : caches["pruned"].stage(2).lengths[0] - 2]
    whole_rows = caches["whole"]._keys[2][0]
    places = (kept_rows[0, :, None] == whole_rows[0, None]).all(dim=2).int().argmax(dim=1)
    assert torch.equal(kept_rows, whole_rows[:, places])
    assert places.diff().min() > 0


@torch.no_grad()
def test_where_everything_stays_nothing_is_forgotten(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch, more = prompt_batch(["is it", "what colour is it ?"], router=False), torch.tensor([[9], [9]])
    answers = []
    for method in ({**NAME, "threshold": 0.0}, {"name": "dense"}):
        model.configure_method(method)
        cache = PackedCache()
        model(**batch, **{CACHE_NAME: cache})
        answers.append(model(input_ids=more, **{CACHE_NAME: cache}).logits)
    torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_texts_alone_pay_for_nothing(subject: Subject) -> None:
    routing = subject.model(**subject.prompts(TEXT, PICTURE)).routing
    assert {tag: macs for tag, macs in routing.ledger(0).macs.items() if macs} == {}
    assert set(routing.ledger(1).macs) >= {"glimpse", "predictor", "probe"}


def test_what_a_rider_rides_with(model: DpnForConditionalGeneration) -> None:
    model.configure_method(NAME)
    pruner = model.parts.reducers[SITE]
    for more in ({"reducers": {2: TokenReducer(2), SITE: pruner}}, {"patches": {SITE: LayerPatch(SITE)}}):
        with pytest.raises(ValueError, match="a row rides up to layer 6; allowed: behind a layer, with neither"):
            Parts(**{"reducers": {SITE: pruner}, **more})
    probe = Probe(SITE, state_of((2, 3, 4)), None, None)
    with pytest.raises(ValueError, match="a rider's attention after layer 6 was asked for; nothing rode up to there"):
        probe.rider_attention()
