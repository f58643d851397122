"""The dial's arithmetic on any router: the course of a sample under a growing bias, its cost, and the ladder."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from dpn_model.cost.flops import DecoderShape
from dpn_model.cost.ledger import sample_cost
from dpn_model.methods.dpn.budget import Dial, RouteTable, Standing, build_dial, course
from dpn_model.methods.dpn.threshold import Passage, Routes, Threshold
from dpn_model.methods.pooling.grid import pooled_size

KERNELS = ((1, 1), (1, 2), (2, 2))
ROUTES = Routes(DecoderShape(32, 64, 4), "swiglu", (1, 2, 3), (KERNELS,) * 3, "floor", 1)
STRENGTHS = (*np.geomspace(0.02, 8.0, 24).tolist(), 1e6)


def _taken(
    routes: Routes, logits: dict[tuple[int, ...], list[float]], bias: float, grid: tuple[int, int], draw: float
) -> tuple[tuple[int, ...], float]:
    """Route and cost of one sample whose router says `logits` at every place; bias 0: the router alone."""
    path: tuple[int, ...] = ()
    passage: Passage | None = None
    stages = [grid[0] * grid[1]]
    for site, kernels in enumerate(routes.kernels):
        if bias:
            expert, passage = Threshold(bias, site, routes).choose(logits[path], passage, (grid,), 9, draw)
        else:
            sizes = [math.prod(pooled_size(*grid, kernel, routes.rounding)) for kernel in kernels]
            fits = [e for e, left in enumerate(sizes) if left >= (1 if kernels[e] == (1, 1) else routes.min_tokens)]
            expert = max(fits, key=lambda e: logits[path][e])
        path, grid = (*path, expert), pooled_size(*grid, kernels[expert], routes.rounding)
        stages.append(grid[0] * grid[1])
    return path, sample_cost(routes.shape, routes.layers, stages, 9, routes.convention).ratio


@lru_cache
def _paths(num_sites: int, num_experts: int) -> list[tuple[int, ...]]:
    paths: list[tuple[int, ...]] = [()]
    for path in paths:
        if len(path) < num_sites - 1:
            paths += [(*path, expert) for expert in range(num_experts)]
    return paths


@pytest.mark.parametrize(
    "routes",
    [
        ROUTES,
        Routes(ROUTES.shape, "eq8", (1, 2, 3), (((2, 2), (1, 1), (2, 1)), KERNELS, KERNELS), "floor", 6),
        Routes(ROUTES.shape, "true", (1, 2, 3), (((1, 1), (3, 3)), ((1, 1), (1, 3)), ((1, 1), (2, 2))), "ceil", 1),
    ],
    ids=["paper", "floor of tokens", "other kernels"],
)
def test_no_sample_costs_more_under_a_smaller_budget(routes: Routes) -> None:
    """Routers whose logits have nothing to do with one another, place by place: the worst there are.

    Without the bound 1.7% of the first ones would cost more somewhere along the ladder.
    """
    draw = np.random.default_rng(0)
    for _ in range(300):
        experts = max(map(len, routes.kernels))
        logits = {path: draw.normal(size=experts).tolist() for path in _paths(len(routes.layers), experts)}
        logits = {path: row[: len(routes.kernels[len(path)])] for path, row in logits.items()}
        mine = float(draw.random())
        biases = [*(-strength for strength in reversed(STRENGTHS)), 0.0, *STRENGTHS]
        found = [_taken(routes, logits, bias, (8, 6), mine) for bias in biases]
        assert all(before[1] >= after[1] for before, after in pairwise(found)), found
        assert _taken(routes, logits, -1e-9, (8, 6), mine) == found[25] == _taken(routes, logits, 1e-9, (8, 6), mine)


def test_a_course_by_hand() -> None:
    """Logits 1, 0.5, -2 at log2 areas 0, 1, 2: the middle kernel wins from 0.5 on, the largest from 2.5 on."""
    steps = list(course([1.0, 0.5, -2.0], [0.0, 1.0, 2.0], [0.8, 0.5, 0.3], Standing(), 0.0))
    assert steps == [(0, Standing()), (1, Standing(0.5, 0.8)), (2, Standing(2.5, 0.5))]
    # Come at 1.0 under a bound: what costs more is closed, and the middle kernel is ahead here already.
    steps = list(course([1.0, 0.5, -2.0], [0.0, 1.0, 2.0], [0.8, 0.5, 0.3], Standing(1.0, 0.6), 0.0))
    assert steps == [(1, Standing(1.0, 0.6)), (2, Standing(2.5, 0.5))]
    # An expert that leads nowhere is never taken.
    assert [expert for expert, _ in course([0.0, 9.0], [0.0, 1.0], [1.0, math.inf], Standing(), 0.0)] == [0]


def _table(rows: int, seed: int) -> RouteTable:
    """One site of three kernels at ratios 1, 0.6 and 0.4."""
    logits = np.random.default_rng(seed).normal(size=(rows, 1, 3))
    return RouteTable([np.array([0.0, 1.0, 2.0])], [logits], np.tile([1.0, 0.6, 0.4], (rows, 1)))


def test_the_ladder_holds_the_means_of_its_thresholds() -> None:
    table = _table(400, 1)
    dial = build_dial(table, "eq8")
    assert list(dial.biases) == sorted(dial.biases)
    assert list(dial.ratios) == sorted(dial.ratios, reverse=True)
    assert dial.reachable == (0.4, 1.0)
    for bias, ratio in zip(dial.biases, dial.ratios, strict=True):
        taken = (table.logits[0][:, 0] + bias * table.rates[0]).argmax(axis=1)
        assert table.ratios[np.arange(400), taken].mean() == pytest.approx(ratio, abs=1e-6)  # rounded to six digits
    gaps = -np.diff(dial.ratios)
    assert gaps.max() < 0.0026  # a step of `STEP`, and one sample's of 0.6 / 400 at most
    assert dial.router_ratio == pytest.approx(table.ratios[np.arange(400), table.logits[0][:, 0].argmax(1)].mean())
    for asked in (0.41, 0.5, 0.65, 0.8, 0.99):
        turned = dial.at(asked)
        assert turned.ratios[turned.biases.index(turned.bias())] == pytest.approx(asked, abs=0.0013)


def test_within_the_calibrations_own_error_of_the_routers_mean_it_is_the_router() -> None:
    dial = build_dial(_table(400, 1), "eq8")
    assert 0 < dial.margin == pytest.approx(0.01)  # the standard error is 0.0126
    own = dial.router_ratio
    assert [dial.at(own + offset).bias() == 0 for offset in (-0.02, -0.009, 0.0, 0.009, 0.02)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert dial.at(None).bias() == 0


def test_a_dial_of_an_earlier_version_is_refused_in_one_line() -> None:
    dial = build_dial(_table(50, 2), "eq8").at(0.5)
    assert Dial.from_dict(dial.to_dict()) == dial
    earlier = {"convention": "eq8", "biases": [[0.0, 0.0]], "bend": 0.5, "ratios": [1.0], "flops_ratio": 0.5}
    with pytest.raises(ValueError, match="an earlier version made it.*calibrate again") as told:
        Dial.from_dict(earlier)
    assert "\n" not in str(told.value)
