"""HiDrop: who runs which layer, what is left where, and the gradient of a choice (spec peer-methods 6.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.attention.layout import AttentionLayout
from dpn_model.bases.catalogue import base_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.cost.ledger import Rows
from dpn_model.methods.hidrop.parts import Exit, straight_through
from dpn_model.methods.hidrop.spec import SPEC, HiDropSettings
from dpn_model.methods.probe import Probe
from dpn_model.positions import multimodal_positions
from tests.model.methods.packed_states import (
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


def test_the_papers_window_and_mean() -> None:
    window = HiDropSettings().window(32)
    assert (window.inject, tuple(window.filters), window.exit) == (8, (10, 14, 16, 18), 24)
    assert window.left(576) == {10: 144, 14: 72, 16: 36, 18: 18, 24: 0}
    planned = SPEC.plan(HiDropSettings(), SHAPE, 0).cheapest
    assert planned.mean_visual_tokens() == pytest.approx(64.125)
    assert planned.prefill(SHAPE.decoder, "swiglu").total / 1e12 == pytest.approx(0.42, abs=0.005)
    asked = SPEC.plan(HiDropSettings(), SHAPE, 60).cheapest
    assert asked.macs["probe"] < 0.05 * asked.prefill(SHAPE.decoder, "swiglu").total


@pytest.mark.parametrize(
    ("layers", "found"), [(8, (2, (3, 4), 6)), (16, (4, (5, 7, 8, 9), 12)), (40, (10, (12, 18, 20, 22), 30))]
)
def test_the_window_is_scaled_to_other_depths(layers: int, found: tuple) -> None:
    window = HiDropSettings().window(layers)
    assert (window.inject, tuple(window.filters), window.exit) == found


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"inject": 24}, "inject = 24 and exit = 24: allowed with 32 layers: inject below exit"),
        ({"exit": 32}, "exit = 32: allowed with 32 layers"),
        ({"sites": (8, 12)}, r"sites = \[8, 12\]: allowed: layers behind 8 and before 24"),
        ({"ratios": (0.5, 0.25)}, r"ratios has 2 entries; sites = \[10, 14, 16, 18\] needs 4"),
        ({"sites": (10, 12), "ratios": (0.2, 0.5)}, "what was dropped cannot come back: none may grow"),
    ],
)
def test_settings_that_do_not_fit_are_told(settings: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        HiDropSettings(**settings).window(32)


@torch.no_grad()
def test_layers_hold_text_alone_in_front_and_behind(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method(Method("hidrop"))
    cache = prefilled(model, prompt_batch(QUESTIONS))
    report = model.last_routing
    visual = [0, 0, 64, 16, 8, 8, 0, 0]
    for layer, tokens in enumerate(visual):
        assert cache.stage(layer).lengths == tuple(count + tokens for count in report.text_tokens)
    ledger = report.ledger(1)
    loads = [load for count, load in ledger.stages for _ in range(count)]
    assert [load.attention.visual for load in loads] == visual
    assert loads[0].stream == Rows(64, report.text_tokens[1])
    assert ledger.mean_visual_tokens() == sum(visual) / 8
    assert report.route(0) == ("16", "8", "0", "text", "text")
    assert report.records[-1].tokens_out == (0, 0, 0)


@torch.no_grad()
def test_visual_tokens_wait_as_the_projector_left_them(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    """The layer behind the bypass gets them unchanged, and text as a pass without pictures would leave it."""
    model.configure_method(Method("hidrop"))
    batch = alone(prompt_batch(QUESTIONS, router=False), 0)
    seen: list[Tensor] = []
    layers = model.model.language_model.layers
    hook = layers[2].register_forward_pre_hook(lambda layer, given: seen.append(given[0][0]))
    model(**batch)
    packed = model.pack(batch["input_ids"], None, batch["pixel_values"], None).state
    hook.remove()
    (image,) = packed.images
    rows = slice(image.start, image.start + image.num_tokens)
    assert torch.equal(seen[0][rows], packed.hidden_TD[rows])
    text = torch.cat([packed.hidden_TD[: rows.start], packed.hidden_TD[rows.stop :]])
    table = model.model.language_model.rotary_emb
    places = torch.cat([packed.position_ids_T[: rows.start], packed.position_ids_T[rows.stop :]])[None]
    for layer in layers[:2]:
        layout = AttentionLayout([len(text)], text.device)
        arguments = {"position_embeddings": table(text[None], position_ids=places), "layout": layout}
        text = layer(text[None], **arguments)[0]
    found = torch.cat([seen[0][: rows.start], seen[0][rows.stop :]])
    torch.testing.assert_close(found, text, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("positions", "behind"), [("keep", [7, 5]), ("contiguous", [4, 5])])
def test_pictures_without_tokens_leave_text_and_positions(positions: str, behind: list[int]) -> None:
    state = state_of((2, 3, 2), (5, 0, 0))
    after, record = Exit(6, positions)(state, Probe(6, state, None, None))
    assert (kept_rows(state, after), after.lengths) == ([0, 1, 5, 6], (4, 5))
    assert [image.num_tokens for image in after.images] == [0]
    assert next_positions(after) == behind
    assert (record.tokens_out, record.choices, record.keep_ratio) == ((0, 0), ("0", "-"), 0.0)
    again, _ = Exit(7, positions)(after, Probe(7, after, None, None))
    assert again.lengths == after.lengths
    assert multimodal_positions(after.lengths, after.images)[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("settings", [{}, {"positions": "contiguous"}, {"exit": 0}, {"inject": 0}])
def test_decoding_behind_the_cache_is_the_whole_pass_under_the_same_choice(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, settings: dict
) -> None:
    model.configure_method(Method("hidrop", **settings))
    step, whole = cached_and_whole(model, alone(prompt_batch(QUESTIONS), 0))
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_turn_without_a_picture_goes_on_behind_one(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    """Samples with and without pictures in one batch, then several steps behind the cache."""
    model.configure_method(Method("hidrop"))
    batch = prompt_batch(QUESTIONS[:2])
    cache = PackedCache()
    model(**batch, **{CACHE_NAME: cache})
    more = torch.tensor([[9, 10], [11, 9]])
    together = model(input_ids=more, **{CACHE_NAME: cache}).logits
    for sample in range(2):
        cache = prefilled(model, alone(batch, sample))
        single = model(input_ids=more[sample : sample + 1], **{CACHE_NAME: cache}).logits
        torch.testing.assert_close(together[sample], single[0], atol=1e-5, rtol=1e-5)


def test_a_choice_has_the_gradient_of_a_sigmoid() -> None:
    score = torch.tensor([0.1, 0.4, 0.2, 0.3], requires_grad=True)
    mask = straight_through(score, 2)
    assert mask.tolist() == [1.0] * 4
    mask[1].backward()
    soft = torch.sigmoid(torch.tensor(4 * (1 - 0.5)))  # λ = 4 tokens, threshold half way between 1/3 and 2/3
    torch.testing.assert_close(score.grad, torch.tensor([0.0, 4 * float(soft * (1 - soft)) / 0.3, 0.0, 0.0]))
    level = torch.full((3,), 0.2, requires_grad=True)
    straight_through(level, 1).sum().backward()
    assert torch.isfinite(level.grad).all()


def test_the_loss_teaches_the_ranking(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    """The layer behind a filter learns from it, and the mask changes no value."""
    model.configure_method(Method("hidrop", sites=[3]))
    batch, found = training_batch(), {}
    for training in (False, True):
        for reducer in model.parts.reducers.values():
            reducer.train(training)
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        found[training] = loss.item(), model.model.language_model.layers[3].self_attn.q_proj.weight.grad.clone()
    assert found[True][0] == found[False][0]
    assert not torch.allclose(found[True][1], found[False][1])
    assert torch.isfinite(found[True][1]).all()
