"""Fronts of many draws at once say what `evaluation/pareto.py` says of each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_platform.benchmarks.statistics.best_of_many import flattery_of_best
from dpn_platform.benchmarks.statistics.drawn_fronts import DrawnFronts
from dpn_platform.benchmarks.statistics.paired import mcnemar
from dpn_platform.benchmarks.statistics.paired_pictures import change_of_sums, picture_change
from dpn_platform.benchmarks.statistics.pictures import Pictures, drawn_seeds
from dpn_platform.benchmarks.statistics.seed_variance import variance_parts
from dpn_platform.evaluation.pareto import flops_ratio, hypervolume, knee, pareto_front
from dpn_platform.evaluation.points import Point


def points_of(accuracy_P: np.ndarray, cost_P: np.ndarray) -> list[Point]:
    return [
        Point(
            name=f"{place:02d}",
            method="dpn",
            accuracy=float(accuracy),
            accuracy_ci=(0.0, 1.0),
            flops_ratio={"swiglu": float(cost)},
            visual_tokens_mean=1.0,
        )
        for place, (accuracy, cost) in enumerate(zip(accuracy_P, cost_P, strict=True))
    ]


@pytest.mark.parametrize("digits", [2, 8])
def test_every_draw_is_the_front_of_its_points(digits: int) -> None:
    """With two digits there are ties on one axis and on both."""
    generator = np.random.default_rng(0)
    accuracy_PR, cost_PR = generator.random((2, 30, 60)).round(digits)
    cost_PR *= 1.2  # some are dearer than the corner
    fronts = DrawnFronts.of(accuracy_PR, cost_PR, accuracy_PR)
    inside, outside = fronts.volumes(1.0)
    known = np.arange(30) % 3 > 0
    some, _ = fronts.volumes(1.0, known)
    knees, best = fronts.knees(), fronts.best_under(0.4)
    assert np.array_equal(inside, outside)
    for draw in range(60):
        points = points_of(accuracy_PR[:, draw], cost_PR[:, draw])
        assert fronts.membership()[:, draw].tolist() == pareto_front(points)
        assert inside[draw] == pytest.approx(hypervolume(points))
        assert some[draw] == pytest.approx(
            hypervolume([one for one, is_known in zip(points, known, strict=True) if is_known])
        )
        middle = knee(points)
        assert (None if middle is None else middle.name) == (None if knees[draw] < 0 else f"{knees[draw]:02d}")
        cheap = [one.accuracy for one in points if flops_ratio(one) <= 0.4]
        assert points[best[draw]].accuracy == max(cheap)
        assert flops_ratio(points[best[draw]]) <= 0.4


def test_nothing_known_and_nothing_cheap() -> None:
    fronts = DrawnFronts.of(np.full((2, 3), 0.5), np.full((2, 3), 0.7), np.full((2, 3), 0.5))
    assert fronts.volumes(1.0, np.array([False, False]))[0].tolist() == [0.0] * 3
    assert fronts.best_under(0.4).tolist() == [-1] * 3
    assert fronts.knees().tolist() == [-1] * 3


def test_draws_depend_on_questions_and_seed_alone() -> None:
    """Points drawn by themselves are what they are among others, so what is known of earlier points stays."""
    pictures = Pictures("questions", np.array([1.0, 2.0, 3.0, 1.0, 1.0]), np.array([0, 0, 0, 1, 1]))
    score_PC = np.random.default_rng(0).random((4, 5))
    both, left = pictures.drawn_means(score_PC, 7, 50)
    assert np.array_equal(pictures.drawn_means(score_PC[2:], 7, 50)[0], both[2:])
    assert not np.array_equal(pictures.drawn_means(score_PC, 8, 50)[0], both)
    assert left.shape == both.shape == (4, 50)
    assert pictures.drawn_ratios(score_PC, score_PC, 7, 50) == pytest.approx(np.ones((4, 50)))


def test_pictures_are_drawn_as_wholes_and_benchmarks_count_alike() -> None:
    """Four questions of one picture spread as one: the variance of the mean is that of pictures."""
    count = 200
    right = (np.arange(count) % 2).astype(float)
    wholes = Pictures("wholes", np.full(count, 4.0), np.zeros(count, int))
    spread = wholes.drawn_means(4 * right[None], 0, 2000)[0].std()
    assert spread == pytest.approx(0.5 / count**0.5, rel=0.08)
    two = Pictures("two", np.ones(6), np.array([0, 0, 0, 0, 1, 1]))
    assert two.means(np.array([1.0, 1, 1, 1, 0, 0])) == pytest.approx(0.5)


def test_drawn_seeds_spread_as_the_mean_of_seeds_does() -> None:
    accuracies = np.array([0.5, 0.6, 0.7])
    means = (drawn_seeds("setting", 3, 0, 4000) * accuracies[:, None]).sum(axis=0)
    assert means.mean() == pytest.approx(0.6, abs=0.003)
    assert means.var() == pytest.approx(accuracies.var(ddof=1) / 3, rel=0.08)


def test_variance_is_parted_into_seeds_and_questions() -> None:
    """The mean over simulated sets of seeds is what they were made with."""
    generator = np.random.default_rng(0)
    pictures = Pictures("p", np.ones(400), np.zeros(400, int))
    found = []
    for _ in range(200):
        of_seed, of_question = generator.normal(0, 0.02, (3, 1)), generator.normal(0, 0.4, (1, 400))
        score_SC = 0.5 + of_seed + of_question + generator.normal(0, 0.2, (3, 400))
        found.append(variance_parts(pictures, score_SC))
    seeds, questions = np.mean(found, axis=0)
    assert seeds == pytest.approx(0.02**2 / 3, rel=0.15)
    assert questions == pytest.approx(0.4**2 / 400 + 0.2**2 / 1200, rel=0.05)


@pytest.mark.parametrize(("wins", "losses"), [(60, 40), (8, 0), (30, 30), (2, 9), (320, 240)])
def test_single_questions_are_mcnemars(wins: int, losses: int) -> None:
    """One-sided and never smaller than the exact p-value by more than a tenth."""
    part_C = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 100) / (wins + losses + 100)
    change = picture_change(part_C)
    exact = mcnemar(wins, losses) / 2
    assert change.value == pytest.approx((wins - losses) / (wins + losses + 100))
    if wins > losses:
        assert 0.9 * exact <= change.p_value <= 2 * exact
    else:
        assert change.p_value >= 0.5
    n = wins + losses + 100
    assert change_of_sums((wins - losses) / n, (wins + losses) / n**2, 1 / n, n) == pytest.approx(change)


def test_the_best_of_many_is_flattered_by_as_much_as_it_is() -> None:
    """Of twenty equal points by what the best one seems above the truth; of one far ahead by nothing."""
    generator = np.random.default_rng(0)
    pictures = Pictures("q", np.ones(1000), np.zeros(1000, int))
    seen, told = [], []
    for seed in range(40):
        score_PC = (generator.random((20, 1000)) < 0.7).astype(float)
        seen.append(score_PC.mean(axis=1).max() - 0.7)
        told.append(flattery_of_best(pictures, score_PC, np.zeros(20), seed))
    assert np.mean(told) == pytest.approx(np.mean(seen), rel=0.15)
    score_PC[3] = 1.0
    assert flattery_of_best(pictures, score_PC, np.zeros(20)) == 0.0
    assert flattery_of_best(pictures, score_PC[:1], np.zeros(1)) == 0.0


def test_equal_answers_prove_nothing() -> None:
    change = picture_change(np.zeros(10))
    assert (change.value, change.p_value, change.ci95) == (0.0, 1.0, (0.0, 0.0))
