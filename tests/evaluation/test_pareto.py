"""The front: ties, duplicates, NaN, single points; the hypervolume by hand; the knee."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from dpn_platform.evaluation.pareto import (
    Reference,
    dominated_by,
    dominates,
    flops_spread,
    front_points,
    hypervolume,
    is_measured,
    knee,
    pareto_front,
)
from dpn_platform.evaluation.points import Point


def point(name: str, accuracy: float, swiglu: float, eq8: float | None = None) -> Point:
    return Point(
        name=name,
        method="dpn",
        accuracy=accuracy,
        accuracy_ci=(accuracy - 0.01, accuracy + 0.01),
        flops_ratio={"swiglu": swiglu, "eq8": swiglu if eq8 is None else eq8},
        visual_tokens_mean=10.0,
    )


def test_front_keeps_what_no_other_point_beats() -> None:
    points = [point("a", 0.9, 1.0), point("b", 0.8, 0.5), point("c", 0.7, 0.6), point("d", 0.6, 0.3)]
    assert pareto_front(points) == [True, True, False, True]
    assert dominated_by(points) == [[], [], ["b"], []]
    assert [item.name for item in front_points(points)] == ["d", "b", "a"]


def test_front_same_cost_lower_accuracy_is_dominated() -> None:
    assert pareto_front([point("a", 0.9, 0.5), point("b", 0.8, 0.5)]) == [True, False]
    assert pareto_front([point("a", 0.9, 0.5), point("b", 0.9, 0.6)]) == [True, False]


def test_front_keeps_all_of_a_tie() -> None:
    assert pareto_front([point("a", 0.9, 0.5), point("b", 0.9, 0.5), point("c", 0.5, 0.5)]) == [True, True, False]


@pytest.mark.parametrize(("accuracy", "cost"), [(math.nan, 0.1), (0.9, math.nan), (math.inf, 0.1)])
def test_front_leaves_out_what_was_not_measured(accuracy: float, cost: float) -> None:
    points = [point("a", accuracy, cost), point("b", 0.5, 0.5)]
    assert pareto_front(points) == [False, True]
    assert dominated_by(points) == [[], []]


def test_front_of_nothing_and_of_one_point() -> None:
    assert pareto_front([]) == []
    assert hypervolume([]) == 0.0
    assert flops_spread([]) == 0.0
    assert knee([]) is None
    assert pareto_front([point("a", 0.5, 0.5)]) == [True]
    assert knee([point("a", 0.5, 0.5)]) is None


def test_front_convention_decides_the_cost() -> None:
    points = [point("a", 0.9, 0.5, eq8=0.9), point("b", 0.8, 0.6, eq8=0.4)]
    assert pareto_front(points, "swiglu") == [True, False]
    assert pareto_front(points, "eq8") == [True, True]


@pytest.mark.parametrize("seed", range(30))
def test_front_and_winners_agree_with_their_definition_on_random_points(seed: int) -> None:
    """Few distinct values, so that ties are common; some points were not measured."""
    draw = random.Random(seed)
    odd = [math.nan, math.inf, -math.inf]

    def value() -> float:
        return draw.choice(odd) if draw.random() < 0.05 else draw.randint(1, 1 + seed) / (1 + seed)

    points = [point(str(index), value(), value()) for index in range(draw.randint(0, 60))]
    winners = [[other.name for other in points if dominates(other, one)] for one in points]
    assert dominated_by(points) == winners
    assert pareto_front(points) == [is_measured(one) and not names for one, names in zip(points, winners, strict=True)]


def test_of_many_winners_the_most_accurate_are_named() -> None:
    points = [point("loser", 0.1, 0.9), *(point(str(index), index / 10, 0.5) for index in range(2, 8))]
    assert dominated_by(points, at_most=3)[0] == ["7", "6", "5"]
    assert dominated_by(points, at_most=6)[0] == ["2", "3", "4", "5", "6", "7"]


def test_hypervolume_by_hand() -> None:
    points = [point("a", 0.5, 0.25), point("b", 0.75, 0.5), point("dense", 1.0, 1.0), point("worse", 0.4, 0.6)]
    assert hypervolume(points) == pytest.approx(0.75 * 0.5 + 0.5 * 0.25)
    assert hypervolume(points, Reference(0.5, 1.5)) == pytest.approx(0.25 * 1.0 + 0.25 * 0.5)


def test_hypervolume_ignores_order_ties_and_points_dearer_than_the_reference() -> None:
    points = [point("a", 0.5, 0.25), point("b", 0.75, 0.5), point("c", 0.75, 0.5), point("d", 0.9, 1.02)]
    volumes = {round(hypervolume(list(order)), 12) for order in itertools.permutations(points)}
    assert volumes == {0.5}


def test_hypervolume_grows_only_with_points_that_advance_the_front() -> None:
    points = [point("a", 0.5, 0.25), point("b", 0.75, 0.5)]
    assert hypervolume([*points, point("c", 0.6, 0.6)]) == hypervolume(points)
    assert hypervolume([*points, point("c", 0.7, 0.4)]) > hypervolume(points)


def test_knee_is_the_point_farthest_above_the_chord() -> None:
    points = [point("cheap", 0.5, 0.2), point("bend", 0.85, 0.4), point("late", 0.9, 0.8), point("dense", 0.95, 1.0)]
    found = knee(points)
    assert found is not None
    assert found.name == "bend"
    assert knee([point("a", 0.5, 0.2), point("b", 0.55, 0.6), point("c", 0.95, 1.0)]) is None


def test_flops_spread_is_that_of_the_front_only() -> None:
    points = [point("a", 0.5, 0.2), point("b", 0.9, 0.7), point("off", 0.1, 0.9)]
    assert flops_spread(points) == pytest.approx(0.5)
