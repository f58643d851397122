"""The sandwich: which routes a step trains, what teaches what, and what a training of it costs."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from dpn_model import Method
from dpn_model.bases.shapes import model_shape
from dpn_model.methods.dpn.settings import Sandwich
from dpn_model.methods.registry import find_method
from dpn_model.modeling import DpnForConditionalGeneration

SITES = (2, 5)


def sandwich(drawn: int = 1, distillation: float = 1.0) -> Method:
    copies = Sandwich(drawn, distillation)
    return Method(sites=SITES, scaling="off", sandwich=copies, routing_token="first")


def test_every_sample_takes_the_dearest_the_cheapest_and_a_drawn_route(
    model: DpnForConditionalGeneration, training_batch
) -> None:
    model.configure_method(sandwich(drawn=2))
    model.train()
    drawn = set()
    for seed in range(12):
        torch.manual_seed(seed)
        routing = model(**training_batch()).routing
        assert routing.num_samples == 4 * 3
        routes = [routing.route(sample) for sample in range(12)]
        assert routes[:3] == [("1x1", "1x1"), ("-", "-"), ("1x1", "1x1")]
        assert routes[3:6] == [("2x2", "2x2"), ("-", "-"), ("2x2", "2x2")]
        drawn |= {routes[6], routes[8], routes[9], routes[11]}
    assert drawn == set(product(("1x1", "1x2", "2x2"), repeat=2))  # 48 draws of nine routes


def test_the_loss_is_the_mean_over_copies_and_what_the_dearest_teaches_the_others(
    model: DpnForConditionalGeneration, training_batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against one forced pass per copy."""
    model.configure_method(sandwich(distillation=0.5))
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor(1))
    batch = training_batch()
    out = model.train()(**batch)
    logits = [_supervised_logits(model, batch, route) for route in (("1x1",) * 2, ("2x2",) * 2, ("1x2",) * 2)]
    gold = _gold(batch)
    losses = torch.stack([cross_entropy(each, gold) for each in logits])
    taught = log_softmax(logits[0], dim=-1)
    divergence = [
        kl_div(log_softmax(each, dim=-1), taught, log_target=True, reduction="batchmean") for each in logits[1:]
    ]
    expected = losses.mean() + 0.5 * torch.stack(divergence).mean()
    assert out.loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert out.num_supervised_tokens == len(gold)
    assert out.loss_terms == {}


def _gold(batch: dict[str, Tensor]) -> Tensor:
    return batch["labels"][:, 1:][batch["labels"][:, 1:] != -100]


def _supervised_logits(model: DpnForConditionalGeneration, batch: dict[str, Tensor], route: tuple[str, ...]) -> Tensor:
    """What the head says in front of every supervised token of the batch on one route."""
    kept = []
    inner = model.token_losses

    def keep(final, labels_T):
        kept.append(inner(final, labels_T)[2])
        return inner(final, labels_T)

    model.eval()
    model.token_losses = keep
    model.set_route(route)
    with torch.no_grad():
        model(**batch)
    del model.token_losses
    model.set_route(None)
    return kept[0]


def test_texts_alone_are_trained_once(model: DpnForConditionalGeneration, training_batch) -> None:
    model.configure_method(sandwich())
    batch = {name: tensor[1:2] for name, tensor in training_batch().items() if name != "pixel_values"}
    out = model.train()(**batch)
    assert out.routing.num_samples == 1
    assert out.loss.item() == out.loss_lm.item()


def test_routers_learn_nothing_and_say_nothing_of_what_was_done(
    model: DpnForConditionalGeneration, training_batch
) -> None:
    model.configure_method(sandwich())
    out = model.train()(**training_batch())
    assert all(record.router_probs_BE is None for record in out.routing.records)
    out.loss.backward()
    routers = [p.grad for name, p in model.named_parameters() if ".router." in name]
    assert routers
    assert all(gradient is not None and not gradient.any() for gradient in routers)  # present: ranks sum them
    pooled = model.model.language_model.layers[-1].mlp.up_proj.weight.grad
    assert pooled.any()


def test_the_dearest_is_what_leaves_most_and_only_feasible_routes_are_taken(
    model: DpnForConditionalGeneration, training_batch
) -> None:
    experts = (("1x2", "4x4"), ("1x1", "2x2"))
    model.configure_method(
        Method(sites=SITES, site_experts=experts, scaling="off", min_tokens=4, sandwich=Sandwich(drawn=1))
    )
    routing = model.train()(**training_batch()).routing
    assert routing.route(0) == ("1x2", "1x1")
    assert routing.route(3) == ("4x4", "1x1")  # 64 tokens, then 4: 2x2 would leave one


def test_a_plan_of_training_counts_every_copy(model: DpnForConditionalGeneration) -> None:
    shape = model_shape(model.config.base)
    spec = find_method("dpn")
    settings = sandwich(drawn=2)
    alone = spec.plan_training(Method(sites=SITES, scaling="off"), shape, 10)
    copies = spec.plan_training(settings, shape, 10)
    assert (len(alone), len(copies)) == (1, 4)
    assert copies[0].cheapest == copies[0].dearest == alone[0].dearest
    assert copies[1].cheapest == copies[1].dearest == copies[2].cheapest
    assert copies[1].cheapest.stages == alone[0].cheapest.stages
    assert copies[2].dearest.stages == alone[0].dearest.stages


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sandwich": {"drawn": 1}}, r"sandwich.drawn = 1 with scaling = 'on': .*; allowed: scaling off"),
        ({"route_fit": {"samples": 9}}, r"route_fit.samples = 9 with scaling = 'on': .*; allowed: scaling off"),
        (
            {"sandwich": {"drawn": 1}, "scaling": "off", "router_gradient": "score"},
            r"router_gradient = 'score' with sandwich.drawn = 1: .*; allowed: scale, or sandwich.drawn 0",
        ),
        ({"sandwich": {"drawn": -1}}, r"sandwich.drawn = -1"),
        ({"route_fit": {"entropy": 0.0}}, r"route_fit.entropy = 0"),
        ({"route_fit": {"rounds": 2}}, r"rounds"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Method(**settings)  # type: ignore[arg-type]


def test_number_of_copies() -> None:
    assert [Sandwich(drawn=drawn).copies for drawn in (0, 1, 3)] == [1, 3, 5]
