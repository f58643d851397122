"""The front as an estimate, from outcome tables: shares of draws, picks, history, seeds, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.common_outcomes import common_outcomes
from dpn_platform.evaluation.front_statistics import DrawnPoints, front_statistics, statistics_of_points
from dpn_platform.evaluation.pareto import hypervolume
from dpn_platform.evaluation.points import Point
from tests.evaluation.outcome_tables import answers, write_point

N = 600
HARDNESS = np.random.default_rng(5).normal(size=N)


@pytest.fixture
def study(tmp_path: Path) -> list[Point]:
    """Dense, a point far above all, one far below it at its cost, and two that nobody could tell apart."""
    made = [("dense", 0.95, 1.0, 0), ("good", 0.90, 0.35, 0), ("bad", 0.70, 0.35, 0), ("near-a", 0.94, 0.60, 1)]
    made += [("near-b", 0.94, 0.60, 2)]
    return [
        write_point(
            tmp_path,
            name,
            answers(accuracy, HARDNESS, seed),
            cost,
            "dense" if name == "dense" else "dpn",
            extension=extension,
        )
        for seed, (name, accuracy, cost, extension) in enumerate(made)
    ]


def test_shares_say_what_can_be_told_apart(study: list[Point]) -> None:
    found = statistics_of_points(study, "swiglu")
    assert found is not None
    assert (found.n, found.pictures, found.benchmarks) == (N, N // 2, ("heldout",))
    assert found.membership["good"] == 1.0
    assert found.membership["bad"] == 0.0
    assert 0.2 < found.membership["near-a"] < 0.8
    assert found.membership["near-a"] + found.membership["near-b"] > 0.95
    assert found.hypervolume.measured == pytest.approx(hypervolume(study))
    # Chosen from two equals: what was measured flatters the choice.
    assert found.hypervolume.ci[0] < found.hypervolume.value < found.hypervolume.measured


def test_picks_name_how_often_they_are_the_same(study: list[Point]) -> None:
    found = statistics_of_points(study, "swiglu")
    assert found is not None
    picks = {pick.rule: pick for pick in found.picks}
    assert "best under 0.2" not in picks
    firm, loose = picks["best under 0.4"], picks["best under 0.6"]
    assert (firm.point, firm.share, firm.others) == ("good", 1.0, {})
    assert firm.accuracy.measured == pytest.approx(0.90)
    assert firm.accuracy.ci[0] < 0.90 < firm.accuracy.ci[1]
    assert loose.share < 0.9
    assert set(loose.others) <= {"near-a", "near-b", "good"} - {loose.point}
    assert loose.accuracy.value < loose.accuracy.measured


def test_history_follows_the_extensions(study: list[Point]) -> None:
    found = statistics_of_points(study, "swiglu")
    assert found is not None
    assert [(one.extension, one.num_points) for one in found.history] == [(0, 3), (1, 4), (2, 5)]
    for one in found.history:
        until = [point for point in study if point.extension <= one.extension]
        assert one.volume.measured == pytest.approx(hypervolume(until))
    first, second, third = (one.gain for one in found.history)
    assert first is None
    assert second is not None
    assert third is not None
    # A point where none was is a gain; a second one just like it is none.
    assert second.ci[0] > 0.0
    assert third.ci[0] <= 0.0
    assert second.measured == pytest.approx(found.history[1].volume.measured - found.history[0].volume.measured)


def test_points_that_come_later_join_those_that_are_drawn(study: list[Point]) -> None:
    outcomes = common_outcomes(study, "swiglu")
    drawn = DrawnPoints("swiglu")
    drawn.add(study[:3], outcomes)
    before = dict(drawn.columns)
    drawn.add(study, outcomes)
    assert all(drawn.columns[name] is column for name, column in before.items())
    at_once = statistics_of_points(study, "swiglu")
    assert at_once is not None
    later = front_statistics(study, outcomes, drawn)
    # Means of many points at once and of few may be summed in another order: the last digit is not the machine's own.
    assert numbers(later.model_dump()) == pytest.approx(numbers(at_once.model_dump()), abs=1e-12)
    assert later.membership.keys() == at_once.membership.keys()
    assert [pick.point for pick in later.picks] == [pick.point for pick in at_once.picks]


def numbers(value: Any) -> list[float]:
    """Every number in nested values, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for one in value for number in numbers(one)]
    return [float(value)] if isinstance(value, int | float) else []


def test_a_setting_is_its_seeds_at_every_time(tmp_path: Path) -> None:
    """The second seed came with an extension: until then the setting was the first alone."""
    points = [write_point(tmp_path, "dense", answers(0.9, HARDNESS, 0), 1.0, "dense")]
    for seed, accuracy in enumerate((0.80, 0.70)):
        points.append(write_point(tmp_path, f"drop-seed-{seed}", answers(accuracy, HARDNESS, 9), 0.5, extension=seed))
    found = statistics_of_points(points, "swiglu")
    assert found is not None
    assert set(found.membership) == {"dense", "drop"}
    assert [one.volume.measured for one in found.history] == pytest.approx([0.5 * 0.80, 0.5 * 0.75])
    (group,) = found.seeds
    assert (group.setting, group.num_seeds, group.mean) == ("drop", 2, pytest.approx(0.75))
    assert group.seeds_error == pytest.approx(0.05, rel=0.1)
    assert group.ci[1] - group.ci[0] > 0.15


def test_other_questions_and_missing_tables_are_left_out_and_named(study: list[Point], tmp_path: Path) -> None:
    other = write_point(tmp_path, "other", answers(0.99, HARDNESS, 8), 0.1, first_id=N)
    lost = study[1].model_copy(update={"name": "lost", "outcomes_uri": None})
    scored_otherwise = study[1].model_copy(update={"name": "f1", "accuracy": 0.5})
    found = statistics_of_points([*study, other, lost, scored_otherwise], "swiglu")
    assert found is not None
    assert found.left_out == {
        "other": "answered other questions of heldout than dense",
        "lost": "has no outcome table",
        "f1": "its accuracy is no mean over the questions of heldout",
    }
    assert found.membership == statistics_of_points(study, "swiglu").membership  # type: ignore[union-attr]
    assert statistics_of_points([lost], "swiglu") is None
    with pytest.raises(DpnError, match="lost: has no outcome table"):
        common_outcomes([*study, lost], "swiglu", like="lost")


def test_the_accuracy_may_be_one_benchmark_of_several(tmp_path: Path) -> None:
    points = [
        write_point(tmp_path, name, answers(accuracy, HARDNESS, 1), 0.5, others={"pope": answers(0.6, HARDNESS, 2)})
        for name, accuracy in (("a", 0.9), ("b", 0.8))
    ]
    assert common_outcomes(points, "swiglu").benchmarks == ("heldout",)
    guard = common_outcomes(points, "swiglu", ["pope"])
    assert guard.accuracy("a") == pytest.approx(0.6)
    mean = [point.model_copy(update={"accuracy": (point.accuracy + 0.6) / 2}) for point in points]
    assert common_outcomes(mean, "swiglu").benchmarks == ("heldout", "pope")


def test_a_question_twice_is_refused(tmp_path: Path) -> None:
    point = write_point(tmp_path, "twice", [1.0, 0.0], 0.5)
    from dpn_platform.benchmarks.outcomes import encode_table, read_table

    rows = read_table(str(point.outcomes_uri))
    Path(str(point.outcomes_uri)).write_bytes(encode_table([*rows, rows[0]]))
    with pytest.raises(DpnError, match=r"one question twice \(q0\)"):
        common_outcomes([point], "swiglu")
