"""RoE-LLaVA: its schedule and loss, turns, mixed batches, layers without keys, and what skipping costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.cache import CACHE_NAME, PackedCache
from dpn_model.methods.contract import LossInputs
from dpn_model.methods.registry import find_method
from dpn_model.methods.roe_llava.losses import SkipHinge
from dpn_model.methods.roe_llava.schedule import Phase, keep_bias, phase_at
from dpn_model.methods.roe_llava.turns import turns_of
from dpn_model.packing import ImageSpan

QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
RUN, SKIP = (1.0, 0.0), (0.0, 1.0)


def force(model: DpnForConditionalGeneration, decisions: dict[int, tuple[tuple[float, float], ...]]) -> None:
    """Logits of every sample with a picture, by layer; all others run."""
    for layer, patch in model.parts.patches.items():
        wanted = decisions.get(layer, (RUN,) * 9)
        patch.router.register_forward_hook(
            lambda module, given, out, wanted=wanted: out.new_tensor(wanted[: len(out)]).view_as(out)
        )


@pytest.mark.parametrize(("target", "bias"), [(0.1, 0.55279), (0.2, 0.36754), (0.3, 0.22540), (0.4, 0.10557)])
def test_random_choices_skip_as_often_as_wanted(target: float, bias: float) -> None:
    assert keep_bias(target) == pytest.approx(bias, abs=1e-5)
    torch.manual_seed(0)
    phase = phase_at(0.1, Method("roe_llava", target_skip=target))
    weights = phase.weights(phase.logits(torch.zeros(200_000, 2)))
    assert weights.unique().tolist() == [0, 1]
    assert weights[:, 1].mean().item() == pytest.approx(target, abs=0.005)


def test_temperature_and_head_start_decay() -> None:
    method = Method("roe_llava")
    assert phase_at(0.3, method) == Phase(False, 10.0, keep_bias(0.3))
    assert phase_at(1.0, method).temperature == pytest.approx(0.007609, abs=1e-6)
    assert phase_at(0.31, method).temperature == pytest.approx(10 * 0.95**2)
    assert phase_at(0.499, method).bias == pytest.approx(keep_bias(0.3) * 0.85**39)
    assert phase_at(0.5, method).bias == 0
    assert phase_at(None, method) == Phase(False, 10.0, 0.0)
    logits = torch.tensor([[2.0, 0.0]])
    assert Phase(False, 10.0, 0.0).weights(logits)[0, 0].item() == pytest.approx(0.549834, abs=1e-6)
    assert Phase(False, 0.01, 0.0).weights(logits)[0, 0].item() == 1.0
    with pytest.raises(ValueError, match=r"bias_until = 0.2; allowed: 0.3"):
        Method("roe_llava", bias_until=0.2)


def test_the_loss_asks_of_samples_that_are_answered_well() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.5, 0.5]], requires_grad=True)
    patches = [SimpleNamespace(router_probs_BE=probs)]
    final: Any = SimpleNamespace(num_samples=3, images=(ImageSpan(0, 0, 1, 1), ImageSpan(2, 0, 1, 1)))
    losses = torch.tensor([0.7, 0.9, 3.0, 0.8])
    term = SkipHinge(0.3, 1.0)
    seen = LossInputs((), patches, losses, torch.tensor([0, 0, 1, 2]), final, torch.zeros(4, 2), lambda early: losses)
    value = term(seen)
    assert 0.8 + 2 * value.item() == pytest.approx(0.803663, abs=1e-6)  # the second sample skips enough
    value.backward()
    assert probs.grad[0, 1] < 0
    assert probs.grad[1].eq(0).all()
    final.images = ()
    assert term(seen) is None


def test_turns_of_a_conversation(model: DpnForConditionalGeneration, training_batch: Any) -> None:
    model.configure_method(Method("roe_llava"))
    calls = []
    model.parts.patches[1].register_forward_hook(lambda module, given, out: calls.append(given[0]))
    batch = training_batch(router=False)
    routing = model.train()(**batch).routing
    first, second, third = turns_of(calls[0])
    assert [turn.sample for turn in (first, second, third)] == [0, 2, 2]
    assert second.picture.tolist() == third.picture.tolist()
    ids = torch.cat([row[mask.bool()] for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)])
    labels = torch.cat([row[mask.bool()] for row, mask in zip(batch["labels"], batch["attention_mask"], strict=True)])
    assert (ids[second.picture] == model.image_token_id).sum() == 64
    start = int(calls[0].starts[2])
    everything = [*second.picture, *second.rows, *third.rows]
    assert sorted(everything) == list(range(start, start + calls[0].lengths[2]))
    answers = torch.nonzero(labels[start:] != -100).flatten() + start
    assert set(second.question).isdisjoint(answers.tolist())
    assert answers[0].item() == second.question[-1] + 1
    assert third.question[-1] + 1 == third.rows[0]
    assert third.rows[0] in answers
    assert routing.patches[0].choices == ("mix", "run", "mix")
    assert routing.ledger(1).macs == {"router": 0, "adapter": 8 * 2 * 96 * 24 * routing.text_tokens[1]}
    assert routing.ledger(2).macs["router"] == 8 * 2 * 4 * 96


def test_the_mix_is_of_both_paths(model: DpnForConditionalGeneration, training_batch: Any) -> None:
    model.configure_method(Method("roe_llava", layers=(3,), tau=1.0))
    patch, layer = model.parts.patches[3], model.model.language_model.layers[2]
    seen: dict[str, Any] = {}
    patch.register_forward_hook(lambda module, given, out: seen.update(call=given[0], out=out[0]))
    layer.register_forward_hook(lambda module, given, out: seen.update(run=out[0]))
    out = model.train()(**training_batch())
    call = seen["call"]
    skipped = call.hidden_TD + patch.adapter(call.normed())
    text_only = slice(int(call.starts[1]), int(call.starts[2]))
    torch.testing.assert_close(seen["out"][text_only], seen["run"][text_only])
    run = out.routing.patches[0].router_probs_BE[0, 0]
    first = slice(0, call.lengths[0])
    torch.testing.assert_close(seen["out"][first], run * seen["run"][first] + (1 - run) * skipped[first])


@torch.no_grad()
def test_each_sample_of_a_batch_decides_for_itself(model: DpnForConditionalGeneration, prompt_batch: Any) -> None:
    """One sample skips layers 1 and 4, its neighbour runs them: keys, costs and steps are each sample's own."""
    batch = prompt_batch(QUESTIONS[:2], router=False)
    dense = model(**batch).logits
    model.configure_method(Method("roe_llava"))
    force(model, {1: (SKIP, RUN), 4: (SKIP, RUN)})
    cache = PackedCache()
    out = model(**batch, **{CACHE_NAME: cache})
    torch.testing.assert_close(out.logits[1], dense[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(out.logits[0], dense[0], atol=1e-2)
    assert out.routing.route(0) == ("skip", "run", "run", "skip", *["run"] * 4)
    rows = [sum(pair) for pair in zip(out.routing.text_tokens, out.routing.visual_tokens, strict=True)]
    assert cache.stage(0).lengths == cache.stage(3).lengths == (0, rows[1])
    assert cache.stage(1).lengths == tuple(rows)
    assert out.routing.ledger(0).macs == {"router": 8 * 4 * 96, "adapter": 2 * 2 * 96 * 24 * rows[0]}
    more = torch.tensor([[9, 10, 11], [12, 8, 9]])
    steps = [model(input_ids=column[:, None], **{CACHE_NAME: cache}).logits for column in more.T]
    assert cache.stage(0).lengths == (0, rows[1] + 3)
    ids, masks = batch["input_ids"], batch["attention_mask"]
    whole = model(
        input_ids=torch.cat([ids, more], dim=1),
        attention_mask=torch.cat([masks, torch.ones_like(more)], dim=1),
        pixel_values=batch["pixel_values"],
        logits_to_keep=3,
    )
    torch.testing.assert_close(torch.stack(steps, dim=1), whole.logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_skipping_everything_is_adapters_alone(model: DpnForConditionalGeneration, prompt_batch: Any) -> None:
    batch = prompt_batch(QUESTIONS[:1])
    model.configure_method(Method("roe_llava", adapter_width=5))
    force(model, dict.fromkeys(range(1, 9), (SKIP,)))
    routing = model(**batch).routing
    planned = find_method("roe_llava").plan(model.config.method_settings, model.model_shape, routing.text_tokens[0])
    assert routing.ledger(0) == planned.cheapest
    assert routing.ledger(0).kv_bytes(model.model_shape.decoder) == 0
    generated = model.generate(**batch, max_new_tokens=3, min_new_tokens=3)
    assert generated.shape[1] == batch["input_ids"].shape[1] + 3


@torch.no_grad()
def test_a_generated_token_costs_what_torch_counts(model: DpnForConditionalGeneration, prompt_batch: Any) -> None:
    model.configure_method(Method("roe_llava"))
    force(model, dict.fromkeys((1, 4, 5), (SKIP,)))
    cache, counter = PackedCache(), FlopCounterMode(display=False)
    cost = model(**prompt_batch(QUESTIONS[:1]), **{CACHE_NAME: cache}).routing.cost(0, "true")
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(input_ids=torch.tensor([[9]]), **{CACHE_NAME: cache})
    assert counter.get_total_flops() == cost.decode_per_token + cost.lm_head


def test_planned_costs_of_the_specification() -> None:
    """Skipped shares of the layers, adapters counted: the cost is linear between no layer and all."""
    shape = base_shape("llava-1.5-7b")
    cheapest, dearest = find_method("roe_llava").plan(Method("roe_llava"), shape, 0)
    assert dearest.prefill(shape.decoder, "eq8").ratio == 1
    assert dearest.macs == {"router": 32 * 2 * 2 * 4096, "adapter": 0}
    assert cheapest.prefill(shape.decoder, "eq8").total == 0
    assert cheapest.decode(shape.decoder, "swiglu") == 32 * 2 * 4096 * 1024
    dense = dearest.prefill(shape.decoder, "eq8").total
    for share, total, ratio in ((0.1, 2702.9, 0.9052), (0.2, 2419.8, 0.8104), (0.3, 2136.6, 0.7155)):
        cost = (1 - share) * dense + share * cheapest.macs["adapter"]
        assert (round(cost / 1e9, 1), round(cost / dense, 4)) == (total, ratio)
