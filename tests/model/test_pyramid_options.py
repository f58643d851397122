"""DPN's options in the whole model: sites and sets, draws, feasibility, activation checkpointing, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dpn_model import DpnForConditionalGeneration, Method, RoutingLoss, method_profile
from dpn_model.methods.registry import settings_of

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?", "is it red ?", "two ?", "is there one ?"]
HINGE = RoutingLoss(weight=1.0, target=1.9, value="expectation")


def test_profiles_hold_what_the_spec_says() -> None:
    default, paper, release = (method_profile(name) for name in ("default", "paper", "release"))
    assert default == Method()
    assert (paper.temperature, paper.selection, paper.routing_loss.value) == (1.0, "top1", "expectation")
    assert (paper.routing_loss.weight, method_profile("paper", high_resolution=True).routing_loss.weight) == (0.01, 1.0)
    assert (release.temperature, release.selection, release.routing_loss.value) == (10.0, "sample", "top1")
    assert (release.routing_loss.weight, release.routing_loss.is_detached, release.min_tokens) == (0.001, True, 18)
    for method in (default, paper, release):
        assert (method.experts, method.scaling, method.routing_loss.target) == (("1x1", "1x2", "2x2"), "on", 1.5)
        assert settings_of(method.to_dict()) == method
    assert settings_of({"name": "dpn", "experts": ["1x1", "1x2", "2x2"]}) == Method()  # saved before an option came
    with pytest.raises(ValueError, match="unknown profile 'authors'; allowed: default, paper, release"):
        method_profile("authors")


def test_a_static_pyramid_may_have_a_kernel_per_site(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method(Method(name="static", sites=(6, 1), site_kernels=("2x2", "1x2")))
    routing = model.eval()(**prompt_batch(QUESTIONS[:1], router=False)).routing
    assert routing.sites == (1, 6)
    assert routing.route(0) == ("1x2", "2x2")
    assert routing.visual_tokens_per_stage(0) == (64, 32, 8)


@pytest.mark.parametrize(("pool", "macs"), [("max", [0, 0, 0]), ("conv", [32 * 2 * 96, 0, 8 * 4 * 96])])
def test_only_a_convolution_costs_multiplications(
    pool: str, macs: list[int], model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    """By hand: tokens left x area of the kernel x width; a kernel of one cell is not computed."""
    model.configure_method(Method(name="static", sites=(1, 3, 5), site_kernels=("1x2", "1x1", "2x2"), pool=pool))
    routing = model.eval()(**prompt_batch(QUESTIONS[:1], router=False)).routing
    assert model.model.language_model.config.hidden_size == 96
    assert [sum(spent[0] for spent in record.macs.values()) for record in routing.records] == macs


def test_random_kernels_are_uniform_and_follow_the_sample(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(QUESTIONS)
    routes = {}
    for seed in range(12):
        model.configure_method(Method(name="random_kernel", seed=seed))
        routing = model.eval()(**batch).routing
        routes[seed] = [routing.route(sample) for sample in range(6)]
        assert [record.router_probs_BE for record in routing.records] == [None] * 3
    drawn = [kernel for rows in routes.values() for route in rows for kernel in route]
    shares = [drawn.count(kernel) / len(drawn) for kernel in ("1x1", "1x2", "2x2")]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.1)  # 216 draws: 3 sigma = 0.096; measured 0.051
    length = int(batch["attention_mask"][3].sum())
    alone = model(batch["input_ids"][3:4, :length], pixel_values=batch["pixel_values"][3:4]).routing.route(0)
    assert alone == routes[11][3]
    assert len({tuple(rows) for rows in routes.values()}) == 12  # the seed matters
    model.train()
    torch.manual_seed(0)
    fresh = {tuple(model(**batch).routing.route(sample) for sample in range(6)) for _ in range(3)}
    assert len(fresh) == 3


def test_the_token_floor_is_the_same_in_training_and_inference(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    """Spec A.4 row 18: the release's floor of 18 tokens held in training only."""
    batch = training_batch()
    allowed = {("1x2", "1x1", "1x1"), ("1x1", "1x2", "1x1"), ("1x1", "1x1", "1x2"), ("1x1",) * 3, ("-",) * 3}
    model.configure_method(method_profile("release"))
    for is_training in (True, False):
        model.train(is_training)
        for _ in range(8):
            routing = model(**batch).routing
            assert {routing.route(sample) for sample in range(3)} <= allowed
        # "resample" keeps the router's probabilities of experts that may not be drawn
        assert float(routing.records[0].router_probs_BE[:, 2].detach().min()) > 0.2
        assert torch.isinf(routing.records[0].router_logits_BE[:, 2]).all()
        assert [row[2] for row in routing.records[0].expert_tokens_BE] == [0, 0]
    model.set_route(["1x2", "1x2", "1x1"])
    with pytest.raises(ValueError, match=r"forces 1x2 after layer 4, .* min_tokens = 18; allowed: 1x1"):
        model(**batch)


def test_a_grid_too_small_for_every_expert_is_named(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method(Method(experts=("4x4", "8x8")))
    with pytest.raises(ValueError, match=r"no expert of 4x4, 8x8 leaves the (2x2|1x1) grid of sample 0 after layer 4"):
        model.eval()(**training_batch())


@pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "non-reentrant"])
def test_the_hinges_gradient_survives_layer_checkpointing(
    model: DpnForConditionalGeneration, training_batch: MakeBatch, use_reentrant: bool
) -> None:
    batch = training_batch()
    model.configure_method(Method(routing_loss=HINGE))
    model.train()
    found = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        torch.manual_seed(3)
        out = model(**batch)
        out.loss_routing.backward()
        routes = [out.routing.route(sample) for sample in range(3)]
        weights = [site.router.predictor.weight for site in model.reducers.values()]
        found.append((routes, [weight.grad.clone() for weight in weights], model.lm_head.weight.grad))
    assert found[0][0] == found[1][0]
    assert all(gradient.abs().sum() > 0 for gradient in found[1][1])
    for plain, recomputed in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-9, rtol=1e-5)  # measured 0.0


@pytest.mark.parametrize(
    "method",
    [
        Method(routing_loss=HINGE),
        Method(selection="gumbel", scaling="off", routing_loss=HINGE),
        Method(name="random_kernel"),
        Method(name="random_drop"),
    ],
    ids=lambda method: f"{method.name}-{getattr(method, 'selection', '')}",
)
def test_a_recompute_replays_the_same_route(
    model: DpnForConditionalGeneration, training_batch: MakeBatch, method: Method
) -> None:
    """The whole forward pass, routers and draws included, runs again in the backward pass."""
    batch = training_batch()
    pixels = batch.pop("pixel_values").requires_grad_()
    model.configure_method(method)
    model.train()
    seen: list[tuple[object, ...]] = []
    for site in model.reducers.values():
        site.register_forward_hook(lambda _module, _inputs, result: seen.append((result[1].choices, *result[0].images)))
    gradients = []
    for is_checkpointed in (False, True):
        model.zero_grad()
        torch.manual_seed(5)
        seen.clear()
        if is_checkpointed:
            loss = checkpoint(lambda values: model(pixel_values=values, **batch).loss, pixels, use_reentrant=False)
        else:
            loss = model(pixel_values=pixels, **batch).loss
        torch.rand(7)  # whoever draws in between must not matter
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(seen) == 6
    assert seen[:3] == seen[3:]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=1e-7, rtol=1e-4)  # measured 0.0


def test_gumbel_selection_teaches_the_router_without_scaling(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method(Method(selection="gumbel", scaling="off", routing_loss=RoutingLoss(weight=0.0)))
    out = model.train()(**training_batch())
    out.loss_lm.backward()
    assert model.reducers["2"].router.predictor.weight.grad.abs().sum() > 0
    model.configure_method(replace(model.config.method_settings, selection="top1"))
    model.train()(**training_batch()).loss_lm.backward()
    assert not model.reducers["2"].router.predictor.weight.grad.any()  # nothing leads there; it takes part in the graph


def test_a_zero_router_is_exactly_uniform(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method(Method(router_init="zero"))
    probs = model.eval()(**prompt_batch(QUESTIONS[:2])).routing.records[0].router_probs_BE
    torch.testing.assert_close(probs, torch.full((2, 3), 1 / 3), atol=1e-6, rtol=0)  # measured 3e-8
