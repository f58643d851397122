"""The numbers behind a proof, each against one worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpn_platform.benchmarks.statistics.bootstrap import clustered_means
from dpn_platform.benchmarks.statistics.mixtures import best_mixture
from dpn_platform.benchmarks.statistics.power import questions_needed, resolvable
from dpn_platform.reports.dynamic.information import entropy, information_of, mutual_information
from dpn_platform.reports.dynamic.material import material_of
from dpn_platform.reports.dynamic.oracle import best_allocation, per_family_gain, per_sample_gain, tie_rate
from dpn_platform.reports.dynamic.static_mixture import static_mixture
from dpn_platform.reports.dynamic.table import route_table
from tests.reports.dynamic_tables import CHEAP, DEAR, halves, knows_the_family, scores_of, table_of

COSTS, ACCURACIES = [0.4, 0.6, 1.0], [0.5, 0.8, 0.9]


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.5, {0: 0.5, 1: 0.5}),  # 65%, on the way from the first to the second
        (0.8, {1: 0.5, 2: 0.5}),
        (0.6, {1: 1.0}),
        (1.2, {2: 1.0}),
        (0.4, {0: 1.0}),
        (0.3, None),  # all are dearer
    ],
)
def test_the_best_mixture_lies_on_the_hull(cost: float, expected: dict[int, float] | None) -> None:
    found = best_mixture(cost, COSTS, ACCURACIES)
    assert (found is None) == (expected is None)
    assert dict(found or ()) == pytest.approx(expected or {})


def test_a_route_below_the_hull_is_no_part_of_it_and_a_cheaper_better_one_counts_alone() -> None:
    assert dict(best_mixture(0.7, [0.4, 0.6, 1.0], [0.5, 0.55, 0.9]) or ()) == pytest.approx({0: 0.5, 2: 0.5})
    assert best_mixture(0.9, [0.4, 0.6, 1.0], [0.5, 0.95, 0.9]) == [(1, 1.0)]


def test_mutual_information_by_hand() -> None:
    """Two routes over two groups: told apart exactly is 1 bit; three to one in each is 1 - H(1/4)."""
    group = np.repeat([0, 1], 4)
    assert mutual_information(group, group) == pytest.approx(1.0)
    assert mutual_information(np.zeros(8, np.int64), group) == 0.0
    mixed = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    of_a_quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert mutual_information(mixed, group) == pytest.approx(1 - of_a_quarter)
    assert entropy(np.array([1, 1, 2, 0])) == pytest.approx(1.5)


def test_power_by_hand() -> None:
    """1.960 + 0.842 standard errors must fit into the difference; four times the questions halve the error."""
    assert resolvable(0.01) == pytest.approx(0.0280159, abs=1e-6)
    assert questions_needed(0.0280159, 0.01, 500) == pytest.approx(500, abs=1)
    assert questions_needed(0.0140079, 0.01, 500) == pytest.approx(2000, abs=2)
    assert questions_needed(-0.0280159, 0.01, 500) == pytest.approx(500, abs=1)
    assert questions_needed(0.0, 0.01, 500) is None


def test_pictures_drawn_as_wholes_widen_the_interval() -> None:
    """Four questions of a picture, answered alike, are worth one: the error is twice that of single questions."""
    values = np.repeat(np.random.default_rng(0).integers(2, size=200), 4).astype(float)
    single = clustered_means(values, np.arange(800), 0).std()
    whole = clustered_means(values, np.repeat(np.arange(200), 4), 0).std()
    assert single == pytest.approx(values.std() / math.sqrt(800), rel=0.05)
    assert whole / single == pytest.approx(2.0, rel=0.07)


def test_an_allocation_spends_where_it_gains_most() -> None:
    """Two groups of half the questions: the second gains 4 points for the same cost at which the first gains 1."""
    score, cost = np.array([[0.30, 0.20], [0.31, 0.24]]), np.array([[0.2, 0.2], [0.5, 0.5]])
    assert best_allocation(score, cost, 0.4)[1] == pytest.approx([0.0, 0.0])
    assert best_allocation(score, cost, 0.55)[1] == pytest.approx([0.0, 0.5])
    assert best_allocation(score, cost, 0.7)[1] == pytest.approx([0.0, 1.0])
    assert best_allocation(score, cost, 1.0)[1] == pytest.approx([1.0, 1.0])
    assert best_allocation(score, cost, 0.1)[1] == pytest.approx([0.0, 0.0]), "no cheaper one is there"


def test_oracles_ties_and_information_of_a_table() -> None:
    """Counting is right on every route, reading on the dear one alone; a router that knows it closes everything."""
    families = halves(200)
    scores = {CHEAP: [float(one == "counting") for one in families], DEAR: [1.0] * 200}
    costs = {CHEAP: 400, DEAR: 1000}
    table = route_table(material_of("x", table_of(families, knows_the_family, scores, costs)), "swiglu")
    (choice,) = table.choices
    mixture = static_mixture(table, choice.cost, table.routes)
    assert mixture is not None
    assert choice.cost == pytest.approx(0.7)
    assert mixture.shares == pytest.approx({CHEAP: 0.5, DEAR: 0.5})
    assert table.mean(mixture.score_N) == pytest.approx(0.75)
    assert tie_rate(table) == pytest.approx(0.5)
    assert per_sample_gain(table, choice, mixture) == pytest.approx(0.25)
    assert per_family_gain(table, choice) == pytest.approx(0.25, abs=0.02)
    information = information_of(table, choice)
    assert information["family"].bits == pytest.approx(1.0)
    assert information["family"].by_chance < 0.02
    assert information["family"].p_value < 0.01
    assert set(information) == {"family"}, "a picture with one question and a single benchmark tell nothing"


def test_the_per_sample_oracle_feeds_on_luck_and_the_halved_one_does_not() -> None:
    """Routes that are right by a coin each: choosing by the outcome gains a lot, a family's choice nothing."""
    families, generator = halves(400), np.random.default_rng(3)
    scores = {route: generator.integers(2, size=400).astype(float) for route in (CHEAP, DEAR)}
    table = route_table(
        material_of("x", table_of(families, knows_the_family, scores, {CHEAP: 900, DEAR: 1000})), "swiglu"
    )
    (choice,) = table.choices
    mixture = static_mixture(table, choice.cost, table.routes)
    assert mixture is not None
    assert per_sample_gain(table, choice, mixture) > 0.15
    assert abs(per_family_gain(table, choice) or 0.0) < 0.04


def test_families_of_one_kind_leave_nothing_to_choose_by() -> None:
    families = ["reading"] * 40
    table = route_table(material_of("x", table_of(families, knows_the_family, scores_of(families))), "swiglu")
    assert per_family_gain(table, table.choices[0]) is None
