"""Schedules of a router's training, temperature and exploration, and the prior on how its decisions are spread."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dpn_model import Method
from dpn_model.methods.dpn.losses import Shaping
from dpn_model.methods.dpn.selection import choose_experts
from dpn_model.methods.dpn.settings import BatchShaping
from dpn_model.methods.dpn.shaping import shaping_loss
from dpn_model.methods.records import ReductionRecord

KERNELS = ((1, 1), (1, 2), (2, 2))


def temperatures(model: Any, progress: float | None, *, training: bool) -> set[float]:
    model.train(training)
    model.tell_progress(progress)
    return {round(site._temperature(), 6) for site in model.reducers_by_layer().values()}


def test_the_temperature_moves_by_one_factor_and_ends_at_its_own(model: Any) -> None:
    model.configure_method(Method(temperature=1.0, temperature_start=16.0))
    assert [temperatures(model, share, training=True) for share in (0.0, 0.25, 0.5, 1.0)] == [
        {16.0},
        {8.0},
        {4.0},
        {1.0},
    ]
    assert temperatures(model, None, training=True) == {1.0}
    assert temperatures(model, 0.5, training=False) == {4.0}, "evaluated on the way, it is as it is trained"
    assert temperatures(model, None, training=False) == {1.0}, "inference has the end's"
    model.configure_method(Method(temperature=3.0))
    assert temperatures(model, 0.0, training=True) == {3.0}


def test_exploration_draws_feasible_experts_alike_and_leaves_other_streams_alone() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0]]).repeat(30_000, 1)
    feasible = torch.tensor([[True, True, False]]).repeat(30_000, 1)
    torch.manual_seed(0)
    shares = torch.bincount(choose_experts(logits, feasible, "top1", exploration=0.4).expert_B, minlength=3) / 30_000
    assert shares.tolist() == pytest.approx([0.8, 0.2, 0.0], abs=0.01)
    torch.manual_seed(0)
    before = choose_experts(logits, feasible, "sample").expert_B
    torch.manual_seed(0)
    assert torch.equal(choose_experts(logits, feasible, "sample", exploration=0.0).expert_B, before)


def test_it_fades_with_the_training_and_there_is_none_at_inference(model: Any, training_batch: Any) -> None:
    model.configure_method(Method(exploration=1.0, selection="top1", router_init="zero"))
    batch, seen = training_batch(), {}
    for training, progress in ((True, 0.0), (True, 1.0), (True, None), (False, 0.0)):
        model.train(training).tell_progress(progress)
        torch.manual_seed(0)
        routes = {model(**batch).routing.route(sample) for _ in range(8) for sample in (0, 2)}
        seen[training, progress] = len(routes)
    assert seen == {(True, 0.0): seen[True, 0.0], (True, 1.0): 1, (True, None): 1, (False, 0.0): 1}
    assert seen[True, 0.0] > 4


def record(values: list[float], kernels: Any = KERNELS) -> ReductionRecord:
    """Decisions of two experts, the first and the last, at these expected compressions."""
    probs = torch.tensor([[1 - value, *[0.0] * (len(kernels) - 2), value] for value in values], requires_grad=True)
    return ReductionRecord(8, (4,), (4,), ("1x1",), router_probs_BE=probs, kernels_E=kernels)


def test_decisions_that_follow_the_prior_are_at_no_distance() -> None:
    prior, count = BatchShaping(weight=1.0), 400
    places = [(place + 0.5) / count for place in range(count)]
    quantiles = [(1 - (1 - place) ** (1 / prior.b)) ** (1 / prior.a) for place in places]
    assert shaping_loss([record(quantiles[::-1])], prior).item() < 1e-5  # type: ignore[union-attr]
    for alike in (0.0, 0.5, 1.0):
        assert shaping_loss([record([alike] * count)], prior).item() > 0.05  # type: ignore[union-attr]
    uniform = BatchShaping(weight=1.0, a=1.0, b=1.0)
    half = shaping_loss([record([0.5] * 2)], uniform)
    assert half is not None
    assert half.item() == pytest.approx(0.25**2)


def test_its_gradient_parts_decisions_that_are_alike() -> None:
    one = record([0.5, 0.5, 0.5, 0.5])
    loss = shaping_loss([one], BatchShaping(weight=1.0))
    assert loss is not None
    loss.backward()
    assert one.router_probs_BE is not None
    gradient = one.router_probs_BE.grad[:, 2]  # type: ignore[index]
    assert gradient[0] > 0 > gradient[-1], "the first goes down, the last up"
    assert torch.isfinite(gradient).all()
    ends = record([0.0, 1.0])
    shaping_loss([ends], BatchShaping(weight=1.0)).backward()  # type: ignore[union-attr]
    assert torch.isfinite(ends.router_probs_BE.grad).all()  # type: ignore[union-attr]


def test_where_there_is_nothing_to_shape() -> None:
    assert shaping_loss([], BatchShaping(weight=1.0)) is None
    assert shaping_loss([record([0.5] * 3, kernels=((1, 2), (2, 1)))], BatchShaping(weight=1.0)) is None
    assert shaping_loss([record([0.5])], BatchShaping(weight=1.0)) is None, "one sample has no spread"


def test_its_weight_falls_to_nothing() -> None:
    done = SimpleNamespace(share=None)
    term = Shaping(BatchShaping(weight=2.0), lambda: done.share)
    weights = []
    for done.share in (None, 0.0, 0.5, 1.0):
        weights.append(term.weight)
    assert weights == [2.0, 2.0, 1.0, 0.0]


def test_it_is_a_term_of_the_loss_and_moves_the_router(model: Any, training_batch: Any) -> None:
    model.configure_method(Method(temperature=1.0, scaling="off", batch_shaping=BatchShaping(weight=1.0)))
    model.train()
    for progress in (0.0, 1.0):
        model.tell_progress(progress)
        model.zero_grad()
        out = model(**training_batch())
        parts = out.loss_lm + 0.01 * out.loss_routing + (1 - progress) * out.loss_terms["batch_shaping"]
        assert out.loss.item() == pytest.approx(parts.item(), rel=1e-5)
        out.loss_terms["batch_shaping"].backward()
        assert model.reducers["2"].router.predictor.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"exploration": 0.1, "sandwich": {"drawn": 1}, "scaling": "off"}, "no route of the sandwich is the router's"),
        ({"exploration": 0.1, "router_gradient": "score"}, "its draws are not from the probabilities"),
        ({"exploration": 1.5}, "exploration"),
        ({"temperature_start": 0.0}, "temperature_start"),
        ({"batch_shaping": {"weight": 1.0, "a": 0.0}}, "batch_shaping.a"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], told: str) -> None:
    from dpn_model.methods.registry import settings_of

    with pytest.raises(ValueError, match=told):
        settings_of({"name": "dpn", **settings})
