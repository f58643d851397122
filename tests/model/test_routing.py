"""Router, selection and the hinge: spec base-models A.3 and A.5 (TEST blocks)."""

from __future__ import annotations

import math

import pytest
import torch

from dpn_model import Method, RoutingLoss
from dpn_model.methods.dpn.router import Router
from dpn_model.methods.dpn.routing_loss import compression_rates, decision_values, routing_loss
from dpn_model.methods.dpn.selection import choose_experts
from dpn_model.methods.records import ReductionRecord

KERNELS = ((1, 1), (1, 2), (2, 2))
AREAS = (0.0, 1.0, 2.0)


def _records(*rows: list[float]) -> list[ReductionRecord]:
    probs = torch.tensor(rows, requires_grad=True)
    return [ReductionRecord(8, (4,), (4,), ("1x1",), router_probs_BE=probs, kernels_E=KERNELS)]


THIRDS = [1 / 3, 1 / 3, 1 / 3]


@pytest.mark.parametrize(
    ("rows", "top1", "expectation", "of_area", "of_root"),
    [
        ([THIRDS], 1.5, 0.5, 0, 0.028595),
        ([[0.2, 0.3, 0.5]], 0.5, 0.2, 0, 0),
        ([[0.1, 0.1, 0.8]], 0.0, 0.0, 0, 0),
        ([[0.6, 0.3, 0.1]], 1.5, 1.0, 0, 0.275736),
        ([[0.1, 0.8, 0.1]], 0.7, 0.5, 0, 0.068629),
        ([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]], 0.633333, 0.333333, 0, 0),
        ([[0.05, 0.05, 0.9], [0.1, 0.15, 0.75], [0.1, 0.1, 0.8]], 0, 0, 0, 0),
    ],
)
def test_hinge_matches_the_specs_table(
    rows: list[list[float]], top1: float, expectation: float, of_area: float, of_root: float
) -> None:
    readings = {
        RoutingLoss(value="top1"): top1,
        RoutingLoss(value="expectation"): expectation,
        RoutingLoss(value="expectation", compression="area"): of_area,
        RoutingLoss(value="expectation", compression="sqrt_area"): of_root,
    }
    for reading, expected in readings.items():
        loss = routing_loss(_records(*rows), reading)
        assert loss is not None
        assert loss.item() == pytest.approx(expected, abs=1e-6)  # measured 4e-7: the table's six digits


def test_other_readings_of_eq_6() -> None:
    assert compression_rates(KERNELS, "mean_stride") == (1.0, 1.5, 2.0)
    uniform = routing_loss(_records(THIRDS), RoutingLoss(value="expectation", compression="mean_stride", target=2.0))
    assert uniform is not None
    assert uniform.item() == pytest.approx(0.5)  # "uniform scores exactly 1.5"
    # To the letter (n = number of experts) the hinge never closes: 2/3 is the most the sum can be.
    closed = routing_loss(_records([0.0, 0.0, 1.0]), RoutingLoss(value="expert_mean"))
    assert closed is not None
    assert closed.item() == pytest.approx(1.5 - 2 / 3)
    released = routing_loss(_records([0.2, 0.3, 0.5]), RoutingLoss(is_detached=True))
    assert released is not None
    assert released.item() == pytest.approx(0.5)
    assert not released.requires_grad


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
        choice = choose_experts(logits, torch.ones(1, 3, dtype=torch.bool), "top1")
        assert choice.probs_BE[0].tolist() == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("selection", ["sample", "gumbel"])
def test_drawn_experts_follow_the_probabilities_and_feasibility(selection: str) -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.2, 0.5, 0.3]).log().repeat(4000, 1)
    feasible = torch.ones(4000, 3, dtype=torch.bool)
    feasible[:, 1] = False
    for renormalise, probs in ((True, [0.4, 0.0, 0.6]), (False, [0.2, 0.5, 0.3])):
        choice = choose_experts(logits, feasible, selection, renormalise=renormalise)
        shares = torch.bincount(choice.expert_B, minlength=3) / 4000
        assert shares.tolist() == pytest.approx([0.4, 0.0, 0.6], abs=0.03)  # measured 0.011; 3 sigma = 0.023
        assert choice.probs_BE[0].tolist() == pytest.approx(probs)
        assert choice.experts == tuple(choice.expert_B.tolist())


def test_gumbel_selection_has_a_straight_through_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 3, requires_grad=True)
    choice = choose_experts(logits, torch.ones(6, 3, dtype=torch.bool), "gumbel")
    assert choice.gate_B is not None
    assert choice.gate_B.tolist() == [1.0] * 6
    gradient = torch.autograd.grad(choice.gate_B.sum(), logits)[0]
    for row, expert in zip(gradient, choice.experts, strict=True):
        # d softmax_j / d logits: positive at the chosen expert, negative elsewhere, zero in sum
        assert row[expert] > 0
        assert row.sum().abs() < 1e-7  # measured 1.5e-8


@pytest.mark.parametrize("selection", ["sample", "gumbel", "top1"])
def test_nan_logits_are_named(selection: str) -> None:
    for bad in (float("nan"), float("inf")):
        logits, feasible = torch.tensor([[0.0, 0.0], [bad, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
        for pick in (None, lambda rows: [0] * len(rows)):
            with pytest.raises(ValueError, match="router_logits of sample 1 hold NaN or infinity"):
                choose_experts(logits, feasible, selection, pick=pick)


def test_who_picks_in_the_routers_place_leaves_its_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5], [3.0, 1.0, 0.0]])
    feasible = torch.tensor([[True, True, True], [True, True, False]])
    plain = choose_experts(logits, feasible, "top1")
    seen = []
    pushed = choose_experts(logits, feasible, "top1", pick=lambda rows: seen.append(rows) or [2, 1])
    assert seen == [[[0.0, 1.0, 0.5], [3.0, 1.0, -math.inf]]]
    assert plain.experts == (1, 0)
    assert pushed.experts == tuple(pushed.expert_B.tolist()) == (2, 1)
    assert torch.equal(plain.probs_BE, pushed.probs_BE)
    assert choose_experts(logits, feasible, "top1", pick=lambda rows: [2, 1], forced=0).experts == (0, 0)


def test_bad_methods_are_named() -> None:
    with pytest.raises(ValueError, match="unknown kernel '2by2'"):
        Method(experts=("2by2",))
    with pytest.raises(ValueError, match=r"scaling = 'half'; allowed: on, off, straight_through"):
        Method(scaling="half")
    with pytest.raises(ValueError, match="9 is out of range; allowed: different layers from 0 to 7"):
        Method(sites=(2, 9)).resolve_sites(8)
    with pytest.raises(ValueError, match="one is repeated; allowed: different layers from 0 to 7"):
        Method(sites=(2, 2)).resolve_sites(8)
    with pytest.raises(ValueError, match="sites is empty"):
        Method(sites=()).resolve_sites(8)
    with pytest.raises(ValueError, match=r"site_experts has 2 entries; sites = \[2, 4, 6\] needs 3"):
        Method(site_experts=(("1x1",), ("1x1",))).kernels_by_site(8)
    with pytest.raises(ValueError, match=r"site_experts\[1\] = \['1x2', '1x2'\]: one is repeated"):
        Method(site_experts=(("1x1",), ("1x2", "1x2")))
    with pytest.raises(
        ValueError, match=r"dpn has no setting temprature \(did you mean temperature\?\); allowed: sites, "
    ):
        Method(temprature=1.0)
    with pytest.raises(
        ValueError, match="random_drop has no setting temperature; allowed: sites, positions, keep_ratio"
    ):
        Method("random_drop", temperature=1.0)
    with pytest.raises(ValueError, match="rounding = 'ceil': a convolution needs whole windows"):
        Method(pool="conv", rounding="ceil")
    for field in ("temperature", "min_tokens", "router_hidden_divisor"):
        with pytest.raises(ValueError, match=f"{field} = 0; it must be"):
            Method(**{field: 0})
    with pytest.raises(ValueError, match="keep_ratio = 0; it must be above 0 and at most 1"):
        Method("random_drop", keep_ratio=0)
    assert Method().resolve_sites(32) == (8, 16, 24)
    assert Method().resolve_sites(40) == (10, 20, 30)
