"""Gamma-MoD: its vectors, the one router, who runs in training and at inference, and positions inside a layer."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.methods.gamma_mod.patch import DepthLayer
from dpn_model.methods.gamma_mod.spec import routed
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.registry import find_method
from dpn_model.packing import ImageSpan, PackedSequence

QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]


@pytest.fixture
def spread(model: DpnForConditionalGeneration) -> DpnForConditionalGeneration:
    """A model whose router passes some tokens and not others, once the method is attached."""
    model.configure_method(Method("gamma_mod", threshold=0.5))
    torch.manual_seed(1)
    with torch.no_grad():
        model.patches["2"].router.weight.copy_(torch.randn(2, 96) * 0.3)
    return model


def test_capacity_of_the_specification() -> None:
    assert 640 - 611 + routed(611, 0.5) == 335
    assert 1 - 611 * 0.5 / 640 == 0.52265625
    assert 6 - 4 + routed(4, 0.5) == 4


def test_forced_and_best_tokens_run_in_training() -> None:
    settings = Method("gamma_mod")
    patch = DepthLayer(2, settings, torch.nn.Linear(4, 2)).train()
    nothing = torch.zeros(6, 4)
    state = PackedSequence(
        nothing, nothing[:, 0], nothing[:, 0], nothing[:, 0], (6,), (ImageSpan(0, 1, 1, 3),), np.empty(0)
    )
    call = LayerCall(2, nothing, (6,), lambda rows, renumber: nothing, state=state, training=True)
    probs = torch.tensor([0.9, 0.2, 0.6, 0.1, 0.3, 0.4])
    assert patch._rows(call, probs).tolist() == [0, 2, 4, 5]


def test_one_router_serves_all_layers(spread: DpnForConditionalGeneration, training_batch: Any, tmp_path: Any) -> None:
    own = [name for name, _ in spread.named_parameters(remove_duplicate=False) if "router" in name]
    assert own == ["patches.2.router.weight"]
    assert sorted(spread.parts.patches) == [2, 3, 4, 5, 6, 7]
    out = spread.train()(**training_batch())
    assert out.loss_terms["depth"].item() == pytest.approx(6 * 0.7, rel=0.5)
    out.loss_lm.backward()  # through the FFN's weights alone
    assert spread.patches["2"].router.weight.grad.abs().sum() > 0
    copied = deepcopy(spread)
    assert copied.parts.patches[5]._router[0] is copied.patches["2"].router
    copied.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    torch.testing.assert_close(again.parts.patches[5]._router[0].weight, spread.patches["2"].router.weight)


def test_training_runs_what_the_capacity_says(spread: DpnForConditionalGeneration, training_batch: Any) -> None:
    batch = training_batch()
    routing = spread.train()(**batch).routing
    for patch in routing.patches:
        for sample, (ran, text) in enumerate(zip(patch.attention, routing.text_tokens, strict=True)):
            if sample == 1:  # without a picture
                assert (sum(ran), patch.choices[sample]) == (text, "100%")
                continue
            kept = batch["attention_mask"][sample].bool()
            system = int((batch["input_ids"][sample, kept] == spread.image_token_id).nonzero()[0])
            assert sum(ran) == text - system + routed(64 + system, 0.5)


@torch.no_grad()
def test_inference_follows_the_threshold_and_tells_what_ran(
    spread: DpnForConditionalGeneration, prompt_batch: Any
) -> None:
    routing = spread(**prompt_batch(QUESTIONS)).routing
    shares = [share for sample in range(3) for share in routing.route(sample)]
    assert len(set(shares)) > 6
    ledger = routing.ledger(0)
    ran = [sum(patch.attention[0]) for patch in routing.patches]
    assert [f"{count / (64 + routing.text_tokens[0]):.0%}" for count in ran] == list(routing.route(0))
    assert ledger.macs["router"] == 6 * 2 * 96 * (64 + routing.text_tokens[0])
    assert ledger.mean_visual_tokens() == (2 * 64 + sum(patch.attention[0].visual for patch in routing.patches)) / 8
    assert ledger.kv_bytes(spread.model_shape.decoder) == 4 * 96 * (2 * sum(ledger.packed) + sum(ran))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["contiguous", "keep"])
def test_decoding_goes_on_inside_each_layer(
    spread: DpnForConditionalGeneration, prompt_batch: Any, positions: str
) -> None:
    """Where both thresholds agree, a step behind the cache is the last rows of one pass over everything."""
    weight = spread.patches["2"].router.weight.clone()
    spread.configure_method(Method("gamma_mod", threshold=0.5, positions=positions))
    spread.patches["2"].router.weight.copy_(weight)
    batch = prompt_batch(QUESTIONS[:1], router=False)
    more = torch.tensor([[9, 10, 11, 12, 8]])
    cache = PackedCache()
    spread(**batch, **{CACHE_NAME: cache})
    lengths = [cache.stage(layer).lengths for layer in range(8)]
    steps = [spread(input_ids=one[None, None], **{CACHE_NAME: cache}).logits for one in more[0]]
    whole = spread(
        input_ids=torch.cat([batch["input_ids"], more], dim=1), pixel_values=batch["pixel_values"], logits_to_keep=5
    )
    torch.testing.assert_close(torch.stack(steps, dim=1), whole.logits, atol=1e-5, rtol=1e-5)
    grown = [cache.stage(layer).lengths[0] - before[0] for layer, before in enumerate(lengths)]
    assert grown[0] == grown[-1] == 5
    assert min(grown) < 5  # some tokens skipped a layer, and wrote no key
    assert (
        whole.routing.patches[0].attention[0].text + whole.routing.patches[0].attention[0].visual
        == (cache.stage(1).lengths[0])
    )


@torch.no_grad()
def test_the_ffn_is_weighed_and_the_attention_is_not(model: DpnForConditionalGeneration, prompt_batch: Any) -> None:
    batch = prompt_batch(QUESTIONS[:2])
    layer, seen = model.model.language_model.layers[2], {}
    torch.manual_seed(3)
    weight = torch.randn(2, 96)
    handles = [
        layer.input_layernorm.register_forward_hook(lambda module, given, out: seen.update(normed=out)),
        layer.mlp.register_forward_hook(
            lambda module, given, out: out * (seen["normed"] @ weight.T).softmax(dim=-1)[..., 1:]
        ),
    ]
    wanted = model(**batch).logits
    for handle in handles:
        handle.remove()
    model.configure_method(Method("gamma_mod", layers=(3,), threshold=0.0))
    model.patches["3"].router.weight.copy_(weight)
    torch.testing.assert_close(model(**batch).logits, wanted, atol=1e-5, rtol=1e-5)


def test_planned_costs_of_the_specification() -> None:
    shape, method = base_shape("llava-1.5-7b"), Method("gamma_mod", rule="capacity")
    assert method.resolve_layers(32) == tuple(range(4, 32))
    planned = find_method("gamma_mod").plan(method, shape, 0)
    for ledger in planned:
        assert ledger.mean_visual_tokens() == 324
        cost = ledger.prefill(shape.decoder, "eq8")
        assert (round(cost.total / 1e9, 2), round(cost.ratio, 4)) == (1660.64, 0.5561)
    low, high = (
        ledger.prefill(shape.decoder, "swiglu").ratio for ledger in find_method("gamma_mod").plan(method, shape, 64)
    )
    assert low < 0.5993 < high
    low, high = (
        ledger.mean_visual_tokens() for ledger in find_method("gamma_mod").plan(Method("gamma_mod"), shape, 64)
    )
    assert (low, high) == (4 / 32 * 576, 576)


def test_a_base_without_room_is_told() -> None:
    with pytest.raises(ValueError, match="different layers from 1 to 32"):
        find_method("gamma_mod").plan(Method("gamma_mod", layers=(33,)), base_shape("llava-1.5-7b"), 0)
