"""Routers learned from measured routes: what is measured, what the policy's probabilities are, what is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method, RoutingLoss
from dpn_model.methods.dpn.measured import Measured, measure
from dpn_model.methods.dpn.route_fit import (
    RouteLesson,
    _expected,
    _ranking,
    _score,
    fit_routers,
    route_log_probs,
)
from dpn_model.methods.dpn.router import Router
from dpn_model.methods.dpn.settings import DpnSettings, RouteFit

Batches = Callable[..., dict[str, Tensor]]
#: of three experts at each of two sites
KERNELS = (((1, 1), (1, 2), (2, 2)),) * 2


def method(**settings: Any) -> DpnSettings:
    return Method(
        sites=(2, 5), scaling="off", temperature=1.0, routing_token="first", routing_loss=RoutingLoss(), **settings
    )  # type: ignore[no-any-return]


def measured(losses_NR: Tensor, ratios_R: Tensor, kinds_N: Tensor, width: int = 6) -> Measured:
    """Samples of up to three kinds; routers can read off the state which it is, and which way it came."""
    count, routes = losses_NR.shape
    marks_ND = torch.nn.functional.one_hot(kinds_N, width).float()
    ways_PD = torch.nn.functional.one_hot(torch.arange(3) + 3, width).float()
    states = (marks_ND[:, None], marks_ND[:, None] + ways_PD)
    feasible = torch.ones(count, routes, dtype=torch.bool)
    return Measured(KERNELS, states, feasible, ratios_R.expand(count, -1).clone(), losses_NR)


def routers(width: int = 6) -> list[Router]:
    return [Router(width, 3, "linear", 1.0) for _ in range(2)]


def policy(fitted: list[Router], seen: Measured) -> Tensor:
    with torch.no_grad():
        logits = [router(read) for router, read in zip(fitted, seen.states, strict=True)]
        return route_log_probs(logits, seen.is_feasible_NR).exp()


RATIOS = torch.tensor([1.0, 0.8, 0.7, 0.7, 0.5, 0.45, 0.5, 0.4, 0.35])


def test_a_route_is_as_probable_as_its_steps_together() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(4, 1, 3), torch.randn(4, 3, 3)
    log_p = route_log_probs([first, second], torch.ones(4, 9, dtype=torch.bool))
    for number, (one, two) in enumerate(product(range(3), repeat=2)):
        expected = first[:, 0].log_softmax(-1)[:, one] + second[:, one].log_softmax(-1)[:, two]
        assert torch.allclose(log_p[:, number], expected)
    assert torch.allclose(log_p.exp().sum(dim=1), torch.ones(4))


def test_routes_that_cannot_be_taken_leave_their_probability_to_the_others() -> None:
    torch.manual_seed(0)
    logits = [torch.randn(3, 1, 3), torch.randn(3, 3, 3)]
    feasible = torch.ones(3, 9, dtype=torch.bool)
    feasible[0, 8] = False  # one end
    feasible[1, 6:] = False  # everything behind the third expert
    log_p = route_log_probs(logits, feasible)
    assert torch.isneginf(log_p[0, 8])
    assert torch.isneginf(log_p[1, 6:]).all()
    assert torch.allclose(log_p.exp().sum(dim=1), torch.ones(3))
    assert log_p[1, 0] == pytest.approx(
        float(logits[0][1, 0, :2].log_softmax(-1)[0] + logits[1][1, 0].log_softmax(-1)[0]), abs=1e-6
    )


def test_the_fitted_policy_is_the_soft_optimum() -> None:
    """exp(-(loss + price * ratio) / entropy), normalised over routes: looked ahead through the later site."""
    losses_R = torch.tensor([0.0, 0.05, 0.3, 0.02, 0.1, 0.2, 0.5, 0.01, 0.4])
    seen = measured(losses_R.expand(200, -1).clone(), RATIOS, torch.zeros(200, dtype=torch.long))
    torch.manual_seed(0)
    fitted = fit_routers(routers(), seen, RouteFit(samples=200, price=0.1, entropy=0.1, passes=400, lr=0.03))
    expected = (-(losses_R + 0.1 * RATIOS) / 0.1).softmax(dim=0)
    assert torch.allclose(policy(fitted, seen)[0], expected, atol=0.01)


@pytest.mark.parametrize("objective", ["expected", "score", "ranking"])
def test_each_kind_of_sample_takes_the_cheapest_route_that_answers_it(objective: Any) -> None:
    """Kinds that tie on all routes, that need everything, and that need everything up to the second site."""
    needs = torch.zeros(3, 9)
    needs[1, 1:] = 1.0
    needs[2, 3:] = 1.0
    kinds = torch.arange(300) % 3
    seen = measured(needs[kinds], RATIOS, kinds)
    torch.manual_seed(0)
    fitted = fit_routers(routers(), seen, RouteFit(samples=300, passes=200, lr=0.03, objective=objective))
    chosen = policy(fitted, seen).argmax(dim=1)
    assert chosen[:3].tolist() == [8, 0, 2]
    assert torch.equal(chosen, torch.tensor([8, 0, 2])[kinds])


def test_two_draws_estimate_the_gradient_of_the_expected_cost_without_bias() -> None:
    """Weighted with the probabilities of all pairs of draws, against autograd of the exact sum."""
    torch.manual_seed(0)
    logits = [torch.randn(1, 1, 2, requires_grad=True), torch.randn(1, 2, 2, requires_grad=True)]
    log_p = route_log_probs(logits, torch.ones(1, 4, dtype=torch.bool))
    value = torch.tensor([[0.3, 0.1, 0.7, 0.2]])
    exact = torch.autograd.grad(_expected(logits, log_p, value, 0.05), logits, retain_graph=True)
    p, sums = log_p.detach().exp()[0], [torch.zeros_like(one) for one in logits]
    for pair in product(range(4), repeat=2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "multinomial", lambda self, count, replacement, pair=pair: torch.tensor([pair]))
            term = _score(logits, log_p, value, 0.05)
        assert term.item() == 0
        for total, part in zip(sums, torch.autograd.grad(term, logits, retain_graph=True), strict=True):
            total += p[pair[0]] * p[pair[1]] * part
    for total, expected in zip(sums, exact, strict=True):
        torch.testing.assert_close(total, expected)


def test_ranking_weighs_pairs_by_what_lies_between_them() -> None:
    """One site of three experts: costs 0.1, 0.4 and (a tie with the first) 0.1."""
    logits = [torch.tensor([[[0.0, 1.0, 2.0]]])]
    value = torch.tensor([[0.1, 0.4, 0.1]])
    log_p = route_log_probs(logits, torch.ones(1, 3, dtype=torch.bool))
    expected = 0.3 * (math.log1p(math.exp(1.0)) + math.log1p(math.exp(-1.0)))  # first over second, third over second
    assert _ranking(logits, log_p, value, 0.0).item() == pytest.approx(expected, abs=1e-6)


def test_the_price_is_moved_until_a_batch_costs_what_it_should() -> None:
    """Samples that tie would all take the cheapest at any price; half of these are worth their tokens."""
    needs = torch.zeros(2, 9)
    needs[1] = torch.tensor([0.0, 0.05, 0.1, 0.1, 0.2, 0.25, 0.2, 0.3, 0.35])
    kinds = torch.arange(200) % 2
    seen = measured(needs[kinds], RATIOS, kinds)
    for target in (0.5, 0.7):
        torch.manual_seed(0)
        fit = RouteFit(samples=200, price=1.0, target=target, passes=400, lr=0.01)
        fitted = fit_routers(routers(), seen, fit)
        assert (policy(fitted, seen) * RATIOS).sum(dim=1).mean() == pytest.approx(target, abs=0.02)


def test_without_a_price_ties_teach_nothing() -> None:
    seen = measured(torch.full((50, 9), 0.3), RATIOS, torch.zeros(50, dtype=torch.long))
    fitted = fit_routers(routers(), seen, RouteFit(samples=50, price=0.0))
    # The state with most entropy over routes: every step even.
    assert torch.allclose(policy(fitted, seen), torch.full((50, 9), 1 / 9), atol=1e-3)


def test_one_hopeless_sample_does_not_outweigh_many() -> None:
    losses = torch.zeros(100, 9)
    losses[:, 0] = 0.05  # the dearest is a little worse for 99 ...
    losses[0] = 40.0
    losses[0, 0] = 0.0  # ... and everything for one
    seen = measured(losses, RATIOS, torch.zeros(100, dtype=torch.long))
    torch.manual_seed(0)
    bounded = fit_routers(routers(), seen, RouteFit(samples=100, price=0.0, passes=100, lr=0.03))
    torch.manual_seed(0)
    unbounded = fit_routers(routers(), seen, RouteFit(samples=100, price=0.0, passes=100, lr=0.03, ceiling=100.0))
    assert policy(bounded, seen)[0].argmax() != 0
    assert policy(unbounded, seen)[0].argmax() == 0


def test_equal_draws_give_equal_routers_and_none_is_touched() -> None:
    seen = measured(torch.rand(60, 9), RATIOS, torch.arange(60) % 3)
    before = routers()
    kept = [{name: value.clone() for name, value in router.state_dict().items()} for router in before]
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(fit_routers(before, seen, RouteFit(samples=60, passes=3)))
    for one, two in zip(*found, strict=True):
        assert all(torch.equal(one.state_dict()[name], two.state_dict()[name]) for name in one.state_dict())
    for router, own in zip(before, kept, strict=True):
        assert all(torch.equal(router.state_dict()[name], own[name]) for name in own)


def test_measured_are_pictured_samples_with_an_answer(
    model: DpnForConditionalGeneration, training_batch: Batches
) -> None:
    model.configure_method(method())
    batch = training_batch()
    seen = Measured.of(measure(model, [batch, batch], "swiglu"))
    assert seen.losses_NR.shape == (4, 9)  # two of three have a picture
    assert [tuple(read.shape[:2]) for read in seen.states] == [(4, 1), (4, 3)]
    assert seen.ratios_NR[:, 0].tolist() == [1.0] * 4
    assert (seen.ratios_NR[:, 8] < 0.6).all()
    mute = {**batch, "labels": batch["labels"].clone()}
    mute["labels"][0] = -100
    assert Measured.of(measure(model, [mute], "swiglu")).losses_NR.shape == (1, 9)
    texts = {name: tensor[1:2] for name, tensor in batch.items() if name != "pixel_values"}
    assert measure(model, [texts], "swiglu") == []


def test_costs_are_those_of_the_prompt(
    model: DpnForConditionalGeneration, training_batch: Batches, prompt_batch: Any
) -> None:
    """A route is chosen for a prompt: answers, which only training knows, do not count."""
    model.configure_method(method())
    trained = Measured.of(measure(model, [training_batch()], "swiglu"))
    asked = Measured.of(measure(model, [prompt_batch(["is there a red circle ?"])], "swiglu"))
    assert torch.allclose(trained.ratios_NR[0], asked.ratios_NR[0])
    assert asked.losses_NR.isnan().all()


def test_the_lesson_leaves_routers_and_a_dial(model: DpnForConditionalGeneration, training_batch: Batches) -> None:
    model.configure_method(method(route_fit=RouteFit(samples=4, passes=3)))
    lesson = model.parts.lesson
    assert isinstance(lesson, RouteLesson)
    assert lesson.num_samples == 4
    before = [site.router.predictor.weight.clone() for site in model.parts.reducers.values()]
    seen = [lesson.look(model, [training_batch()]), [], lesson.look(model, [training_batch()])]
    figures = lesson.learn(model, seen)
    after = [site.router.predictor.weight for site in model.parts.reducers.values()]
    assert not any(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert figures["lesson/samples"] == 4
    assert figures["lesson/loss_best_route"] <= figures["lesson/loss"]
    assert 0 <= figures["lesson/entropy_of_mean"] <= math.log(9)
    assert -1e-6 <= figures["lesson/information"] <= figures["lesson/entropy_of_mean"]
    low, high = 0.4, 1.0
    assert low < figures["lesson/flops_ratio"] <= high
    model.set_budget(flops_ratio=0.9)  # it is calibrated
    with pytest.raises(ValueError, match="samples hold no image"):
        lesson.learn(model, [[], []])
