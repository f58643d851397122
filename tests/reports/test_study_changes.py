"""Two studies: what is the same trial, what moved, how far the fronts are apart, and what is not known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dpn_platform.evaluation.pareto import front_points, hypervolume
from dpn_platform.reports.study import changes
from dpn_platform.reports.study.changes import changes_between, front_shares
from dpn_platform.reports.study.changes_text import conclusion
from dpn_platform.reports.study.pairs import pair
from dpn_platform.sweeps.catalogue import read_study
from tests.reports.conftest import make_point
from tests.sweeps.written_studies import Made, small_trials, write_study


@pytest.fixture
def points_of(tmp_path):
    """The points of a study of `small_trials`, written under a name."""

    def write(name, made=None, **options):
        return read_study(write_study(f"file://{tmp_path}/runs", name, made or small_trials(**options))).points

    return write


def test_pairs_by_settings_then_by_name():
    first = {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}
    second = {"a": "1", "x": "2", "c": "9", "f": "7", "d": "5", "e": "8"}
    both, only_first, only_second = pair(first, second)
    assert both == [("a", "a"), ("b", "x"), ("c", "c"), ("e", "d")]
    assert (only_first, only_second) == (["d"], ["f", "e"])


def test_of_twins_those_called_alike_are_paired():
    assert pair({"a": "1", "b": "1"}, {"b": "1", "c": "1"}).both == [("a", "c"), ("b", "b")]
    assert pair({"a": "1", "b": "1"}, {"b": "1"}) == ([("b", "b")], ["a"], [])


@pytest.mark.parametrize("seed", range(20))
def test_the_hypervolume_is_the_weighted_sum_of_the_fronts_accuracies(seed):
    draw = random.Random(seed)
    points = [
        make_point(f"p{number}", "dpn", draw.randint(1, 12) / 10).model_copy(
            update={"accuracy": draw.randint(0, 10) / 10}
        )
        for number in range(draw.randint(1, 12))
    ]
    shares = front_shares(front_points(points, "swiglu"), "swiglu")
    accuracy = {point.name: point.accuracy for point in points}
    assert sum(share * accuracy[name] for name, share in shares.items()) == pytest.approx(hypervolume(points))


def test_a_study_against_itself(points_of):
    moves, front = changes_between(points_of("a"), points_of("b"), "swiglu")
    names = ("dense", "static_2x2", "dpn-00", "dpn-01", "dpn-02")
    assert [move.names for move in moves] == [(name, name) for name in names]
    assert all(move.same_settings and move.unpaired is None and tuple(move.change) == (0, 0, 0) for move in moves)
    assert front.change == (0, 0, 0)
    text = conclusion("a", "b", moves, front)
    assert text[0].startswith("The fronts are not told apart: hypervolume ")
    assert "0 are more accurate in b, 0 less; 5 are not told apart." in text[1]


def test_a_gain_is_told_and_its_difference_is_the_accuracies(points_of):
    moves, front = changes_between(points_of("a"), points_of("b", gain=0.15), "swiglu")
    for move in moves:
        assert move.change.value == pytest.approx(move.accuracy[1] - move.accuracy[0])
        assert move.change.is_resolved == move.names[0].startswith("dpn")
    assert front.change.value == pytest.approx(front.hypervolumes[1] - front.hypervolumes[0])
    assert front.change.low > 0
    assert front.n == 200
    text = conclusion("a", "b", moves, front)
    assert text[0].startswith("The front of b reaches further: ")
    assert "3 are more accurate in b (dpn-00 +" in text[1]
    assert conclusion("b", "a", *changes_between(points_of("c", gain=0.15), points_of("d"), "swiglu"))[0].startswith(
        "The front of b reaches further"
    )


def test_paired_intervals_are_narrower_than_those_of_other_questions(points_of):
    first, second = points_of("a"), points_of("b", gain=0.05)
    paired, _ = changes_between(first, second, "swiglu")
    without = [point.model_copy(update={"outcomes_uri": None}) for point in second]
    unpaired, front = changes_between(first, without, "swiglu")
    assert front.change is None
    assert front.unknown == "static_2x2 has no outcome table"
    for one, other in zip(paired, unpaired, strict=True):
        assert one.change.value == pytest.approx(other.change.value)
        assert one.change.high - one.change.low < other.change.high - other.change.low
        assert other.unpaired == f"{other.names[1]} has no outcome table"


def test_other_questions_are_said_and_nothing_is_claimed_of_the_fronts(points_of):
    moves, front = changes_between(points_of("a"), points_of("b", n=150, gain=0.3), "swiglu")
    assert all("answer other questions" in move.unpaired for move in moves)
    assert front.change is None
    assert "answer other questions" in front.unknown
    text = conclusion("a", "b", moves, front)
    assert text[0].startswith("Whether the fronts differ is not known: ")
    assert "5 of these differences are not paired" in text[-1]
    assert front.to_json()["resolved"] is None


def test_an_accuracy_that_is_no_mean_over_questions_is_not_drawn_by_question(points_of):
    first = [point.model_copy(update={"accuracy": point.accuracy / 2}) for point in points_of("a")]
    moves, front = changes_between(first, points_of("b"), "swiglu")
    assert {move.unpaired for move in moves} == {"the accuracy is no mean over questions"}
    assert front.unknown == "the accuracy is no mean over questions"


def test_seeds_of_one_setting_are_one_point(points_of):
    trials = small_trials()
    runs = (trials[1], small_trials(seed=3)[1])
    seeds = [
        replace(one, trial=replace(one.trial, key=f"static_2x2-seed-{seed}", params={**one.trial.params, "seed": seed}))
        for seed, one in enumerate(runs)
    ]
    made = [trials[0], *seeds, *trials[2:]]
    moves, front = changes_between(points_of("a", made), points_of("b", made), "swiglu")
    assert [move.names[0] for move in moves] == ["dense", "static_2x2", "dpn-00", "dpn-01", "dpn-02"]
    assert moves[1].unpaired is None
    assert front.change == (0, 0, 0)


def test_what_is_only_called_alike_is_no_move(points_of):
    trials = small_trials(gain=0.2)
    other = replace(trials[2].trial, params={"method.name": "dpn", "method.routing_loss.weight": 9.0})
    changed = [replace(trials[2], trial=other), *trials[3:]]
    moves, front = changes_between(points_of("a"), points_of("b", changed), "swiglu")
    assert {move.names[0]: move.same_settings for move in moves} == {"dpn-00": False, "dpn-01": True, "dpn-02": True}
    assert any("Of 2 points with the same settings" in line for line in conclusion("a", "b", moves, front))


def test_of_very_many_only_those_on_a_front_are_read(points_of, monkeypatch):
    monkeypatch.setattr(changes, "MOST_PAIRED", 2)
    trials = small_trials()
    bad = Made(trials[3].trial, 0.7, [False] * 200)
    moves, _ = changes_between(points_of("a", [*trials[:3], bad]), points_of("b", [*trials[:3], bad]), "swiglu")
    assert [move.unpaired is None for move in moves] == [True, True, True, False]
    assert "their outcome tables are not read" in moves[-1].unpaired


def test_no_point_in_both_is_said(points_of):
    trials = small_trials()
    moves, front = changes_between(points_of("a", trials[:1]), points_of("b", trials[2:3]), "swiglu")
    assert moves == []
    assert conclusion("a", "b", moves, front)[-1] == "No point with the same settings is in both studies."
    assert front.unknown == "no point is cheaper than the dense model"


def test_a_front_of_more_trials_is_said_to_be_one(points_of):
    trials = small_trials()
    moves, front = changes_between(points_of("a", trials[:3]), points_of("b", trials), "swiglu")
    assert front.found_among == (3, 5)
    assert front.change.low > 0
    text = conclusion("a", "b", moves, front)
    assert text[0].startswith("The front of b reaches further")
    assert text[1].startswith("The fronts were found among 3 points in a and among 5 in b: ")
