"""Scores: exact match, Wilson's interval against published values, costs as means of costs, routes."""

import math

import pytest

from dpn_platform.benchmarks.heldout import is_correct
from dpn_platform.benchmarks.statistics.wilson import wilson_interval
from dpn_platform.evaluation import scoring


def row(family="colour", correct=True, gold="red", has_image=True, route="1x1,2x2", **more):
    return {
        "family": family,
        "score": float(correct),
        "gold": gold,
        "has_image": has_image,
        "route": route,
        "visual_tokens_mean": 40.0,
        "eq8_macs": 50,
        "eq8_dense": 100,
        **more,
    }


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [("red", "red", True), (" Red. ", "red", True), ("four  two", "four two", True), ("blue", "red", False)]
    + [("", "", False), ("red red", "red", False), ("twenty-one", "twenty one", False)]
    + [("<ground> red </ground> <objects> <obj1> </objects>", "<ground>red</ground><objects><obj1></objects>", True)]
    + [("<ground>red</ground>\n<objects><obj1></objects>", "<ground>red</ground><objects><obj2></objects>", False)],
)
def test_exact_match_of_the_normalised_answer(answer, gold, expected):
    assert is_correct(answer, gold) is expected


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_interval_ends():
    assert wilson_interval(0, 24)[0] == 0.0
    assert wilson_interval(24, 24)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_score_counts_and_finds_the_majority():
    rows = [row(gold="red"), row(gold="Red", correct=False), row(gold="blue"), row(gold="green", correct=False)]
    score = scoring.score(rows)
    assert (score.n, score.accuracy, score.majority_rate) == (4, 0.5, 0.5)
    assert score.ci == wilson_interval(2, 4)


def test_score_of_nothing():
    score = scoring.score([])
    assert score.n == 0
    assert math.isnan(score.accuracy)
    assert score.majority_rate is None


def test_families_are_scored_apart():
    scores = scoring.score_families([row("b", correct=False), row("a"), row("b")])
    assert list(scores) == ["a", "b"]
    assert [score.accuracy for score in scores.values()] == [1.0, 0.5]


def test_flops_ratio_is_the_mean_of_costs():
    """A long sample weighs as much as it costs; a text-only sample costs nothing under eq8."""
    rows = [row(eq8_macs=100, eq8_dense=100), row(eq8_macs=100, eq8_dense=900), row(eq8_macs=0, eq8_dense=0)]
    assert scoring.flops_ratio(rows, "eq8") == pytest.approx(0.2)
    assert math.isnan(scoring.flops_ratio(rows[2:], "eq8"))


def test_visual_tokens_leave_text_only_samples_out():
    rows = [row(visual_tokens_mean=64.0), row(visual_tokens_mean=16.0), row(visual_tokens_mean=0.0, has_image=False)]
    assert scoring.visual_tokens_mean(rows) == 40.0
    assert math.isnan(scoring.visual_tokens_mean(rows[2:]))


def test_routes_are_counted_by_family():
    rows = [row("a", route="2x2"), row("a", route="1x1"), row("a", route="1x1"), row("b", route="-", has_image=False)]
    assert scoring.count_routes(rows) == {"a": {"1x1": 2, "2x2": 1}}
    assert scoring.count_routes([row(route="")]) == {}
