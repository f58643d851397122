"""MoE-LLaVA: its vectors, experts that begin as copies, room for tokens, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.methods.moe_llava.dispatch import balance_loss, capacity_of, choose, weights_of, within_capacity
from dpn_model.methods.registry import find_method

GATES = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]


def test_choices_weights_and_balance_of_the_specification() -> None:
    index = choose(GATES, 2)
    assert index.tolist() == [[0, 1], [1, 2], [0, 1], [3, 2]]
    torch.testing.assert_close(weights_of(GATES, index)[:, 0], torch.tensor([0.875, 0.75, 4 / 7, 4 / 7]))
    torch.testing.assert_close(GATES.mean(dim=0), torch.tensor([0.325, 0.3, 0.2, 0.175]))
    assert balance_loss(GATES, index[:, 0]).item() == pytest.approx(1.125)
    assert (capacity_of(640, 4, 1.5, 2), capacity_of(640, 4, 2.0, 2)) == (480, 640)


def test_first_choices_find_room_before_second_ones_and_each_sample_has_its_own() -> None:
    index = torch.tensor([[0, 1], [1, 0], [0, 1], [0, 1]])
    kept = within_capacity(index, [4], experts=4, factor=1.0)  # room for 2 each
    assert kept.tolist() == [[True, True], [True, False], [True, False], [False, False]]
    assert within_capacity(index, [2, 2], experts=4, factor=1.0).tolist() == [
        [True, False],
        [True, False],
        [True, True],
        [False, False],
    ]
    weights = weights_of(GATES, index, kept)
    assert weights.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0])


def test_noise_moves_second_choices_alone() -> None:
    torch.manual_seed(0)
    drawn = torch.stack([choose(GATES, 2, is_noisy=True) for _ in range(50)])
    assert (drawn[:, :, 0] == torch.tensor([0, 1, 0, 3])).all()
    assert set(drawn[:, 0, 1].tolist()) == {1, 2, 3}


@torch.no_grad()
@pytest.mark.parametrize("before", ["dense", "toy_ffn", "moe_llava"])
def test_attached_to_a_loaded_base_it_says_what_the_base_says(
    model: DpnForConditionalGeneration, prompt_batch: Any, tmp_path: Any, before: str
) -> None:
    batch = prompt_batch(QUESTIONS)
    dense = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded = DpnForConditionalGeneration.from_pretrained(tmp_path)
    loaded.configure_method({"name": before})
    loaded.configure_method(Method("moe_llava"))
    torch.testing.assert_close(loaded(**batch).logits, dense, atol=1e-5, rtol=1e-5)
    copies = loaded.parts.patches[1].copies
    assert len(copies) == 3
    assert copies[0].up_proj.weight is not loaded.model.language_model.layers[0].mlp.up_proj.weight


@torch.no_grad()
def test_saved_experts_win_over_copies(model: DpnForConditionalGeneration, prompt_batch: Any, tmp_path: Any) -> None:
    model.configure_method(Method("moe_llava"))
    for name, parameter in model.named_parameters():
        if "copies" in name:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    batch = prompt_batch(QUESTIONS)
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**batch).logits, model(**batch).logits)
    before = model(**batch).logits
    model.configure_method(Method("dense"))
    assert not torch.allclose(model(**batch).logits, before)


@torch.no_grad()
def test_a_small_capacity_drops_within_a_sample_and_is_told(
    model: DpnForConditionalGeneration, prompt_batch: Any
) -> None:
    model.configure_method(Method("moe_llava", evaluation_capacity=0.5))
    batch = prompt_batch(QUESTIONS)
    together = model(**batch)
    for sample in range(3):
        kept = batch["attention_mask"][sample].bool()
        one = model(input_ids=batch["input_ids"][sample, kept][None], pixel_values=batch["pixel_values"][sample][None])
        torch.testing.assert_close(together.logits[sample], one.logits[0], atol=1e-5, rtol=1e-5)
        assert together.routing.ledger(sample) == one.routing.ledger(0)
        assert 0 < together.routing.patches[0].ffn_factor[sample] < 1.2


def test_balance_is_trained_and_told(model: DpnForConditionalGeneration, training_batch: Any) -> None:
    model.configure_method(Method("moe_llava"))
    out = model.train()(**training_batch())
    assert 4 * 0.8 < out.loss_terms["balance"].item() < 4 * 4
    torch.testing.assert_close(out.loss, out.loss_lm + 0.01 * out.loss_terms["balance"])


@torch.no_grad()
def test_a_generated_token_costs_what_torch_counts(model: DpnForConditionalGeneration, prompt_batch: Any) -> None:
    model.configure_method(Method("moe_llava"))
    cache, counter = PackedCache(), FlopCounterMode(display=False)
    cost = model(**prompt_batch(QUESTIONS[:1]), **{CACHE_NAME: cache}).routing.cost(0, "true")
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(input_ids=torch.tensor([[9]]), **{CACHE_NAME: cache})
    assert counter.get_total_flops() == cost.decode_per_token + cost.lm_head


def test_it_saves_nothing_at_an_equal_backbone() -> None:
    shape = base_shape("llava-1.5-7b")
    planned = find_method("moe_llava").plan(Method("moe_llava"), shape, 0)
    assert planned.cheapest == planned.dearest
    cost = planned.dearest.prefill(shape.decoder, "eq8")
    assert round(cost.total / 1e9, 2) == 3817.15
    assert round(cost.ratio, 4) == 1.2783


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="top_k = 5; allowed: 1 to 4"):
        Method("moe_llava", top_k=5)
    with pytest.raises(ValueError, match="different layers from 1 to 32"):
        find_method("moe_llava").plan(Method("moe_llava", layers=(33,)), base_shape("llava-1.5-7b"), 0)
