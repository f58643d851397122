"""Router, selection and the hinge: spec base-models A.3 and A.5 (TEST blocks)."""

from __future__ import annotations

import pytest
import torch

from dpn_model.method import Method, RoutingLoss
from dpn_model.pyramid.router import Router, choose_experts
from dpn_model.pyramid.routing_loss import decision_values, routing_loss
from dpn_model.reduction import ReductionRecord

AREAS = (0.0, 1.0, 2.0)


def _records(*rows: list[float]) -> list[ReductionRecord]:
    probs = torch.tensor(rows, requires_grad=True)
    return [ReductionRecord(8, (4,), (4,), ("1x1",), router_probs_BE=probs, log2_areas_E=AREAS)]


@pytest.mark.parametrize(
    ("row", "top1", "expectation"),
    [
        ([0.2, 0.3, 0.5], 0.5, 0.2),
        ([0.1, 0.1, 0.8], 0.0, 0.0),
        ([0.6, 0.3, 0.1], 1.5, 1.0),
        ([0.1, 0.8, 0.1], 0.7, 0.5),
    ],
)
def test_hinge_matches_the_specs_table(row: list[float], top1: float, expectation: float) -> None:
    for value, expected in (("top1", top1), ("expectation", expectation)):
        loss = routing_loss(_records(row), RoutingLoss(target=1.5, value=value))
        assert loss is not None
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_hinge_of_the_mean_is_not_the_mean_of_hinges() -> None:
    rows = ([0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1])
    batch = routing_loss(_records(*rows), RoutingLoss(target=1.5, value="top1"))
    sample = routing_loss(_records(*rows), RoutingLoss(target=1.5, value="top1", aggregation="sample"))
    assert batch is not None
    assert sample is not None
    assert batch.item() == pytest.approx(0.633333, abs=1e-5)
    assert sample.item() == pytest.approx(0.666667, abs=1e-5)


def test_hinge_gradients_match_the_spec() -> None:
    for value, row, expected in (
        ("top1", [0.2, 0.3, 0.5], [0, 0, -2]),
        ("top1", [0.6, 0.3, 0.1], [0, 0, 0]),
        ("expectation", [0.2, 0.3, 0.5], [0, -1, -2]),
    ):
        probs = torch.tensor([row], requires_grad=True)
        loss = (1.5 - decision_values(probs, AREAS, value)).clamp_min(0).mean()
        assert torch.autograd.grad(loss, probs)[0].tolist() == [pytest.approx(expected)]


def test_nothing_routed_gives_no_loss() -> None:
    assert routing_loss([ReductionRecord(2, (4,), (1,), ("2x2",))], RoutingLoss()) is None


def test_router_v1_has_the_specs_size_and_starts_nearly_uniform() -> None:
    torch.manual_seed(0)
    router = Router(4096, 3, "v1", temperature=10.0)
    router.reset_parameters()
    assert sum(p.numel() for p in router.parameters()) == 4_205_568
    probs = router(torch.randn(64, 4096)).softmax(-1)
    assert 0.28 < probs.min() <= probs.max() < 0.39


def test_softmax_with_temperature_matches_the_spec() -> None:
    for temperature, expected in ((1, [0.0420, 0.1142, 0.8438]), (10, [0.2894, 0.3199, 0.3907])):
        logits = torch.tensor([[1.0, 2.0, 4.0]]) / temperature
        probs, _ = choose_experts(logits, torch.ones(1, 3, dtype=torch.bool), "top1")
        assert probs[0].tolist() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("selection", ["sample", "gumbel"])
def test_drawn_experts_follow_the_probabilities_and_feasibility(selection: str) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.2, 0.5, 0.3]).log().repeat(4000, 1)
    feasible = torch.ones(4000, 3, dtype=torch.bool)
    feasible[:, 1] = False
    _, chosen = choose_experts(logits, feasible, selection)
    shares = torch.bincount(chosen, minlength=3) / 4000
    assert shares.tolist() == pytest.approx([0.4, 0.0, 0.6], abs=0.03)


def test_nan_logits_and_infeasible_samples_are_named() -> None:
    with pytest.raises(ValueError, match="router_logits hold NaN"):
        choose_experts(torch.tensor([[float("nan"), 0.0]]), torch.ones(1, 2, dtype=torch.bool), "top1")
    with pytest.raises(ValueError, match="no expert leaves"):
        choose_experts(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), "top1")


def test_bad_methods_are_named() -> None:
    with pytest.raises(ValueError, match="unknown kernel '2by2'"):
        Method(experts=("2by2",))
    with pytest.raises(ValueError, match=r"scaling = 'half'; allowed: on, off, straight_through"):
        Method(scaling="half")
    with pytest.raises(ValueError, match="9 is out of range; allowed: different layers from 1 to 7"):
        Method(sites=(2, 9)).resolve_sites(8)
    assert Method().resolve_sites(32) == (8, 16, 24)
    assert Method().resolve_sites(40) == (10, 20, 30)
