"""Referring: the best answered box, DensityF1, expressions that mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dpn_platform.benchmarks.objects.image_answers import ImageAnswer
from dpn_platform.benchmarks.objects.referring import best_index, density_f1, is_rejected, referring_report
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.objects.small_detections import image_answer

ONE, OTHER, THIRD = (10, 10, 20, 20), (60, 60, 20, 20), (10, 60, 20, 20)


def expression(
    true: Sequence[Sequence[float]],
    named: Sequence[int],
    *,
    image: str = "a",
    shown: Sequence[Sequence[float]] = (ONE, OTHER, THIRD),
    scores: Sequence[float] | None = (0.9, 0.8, 0.7),
    **dropped: int,
) -> ImageAnswer:
    asked = ["the left one"]
    rows = [("thing", box) for box in true]
    return image_answer(image, rows, shown, {"left": tuple(named)}, scores=scores, asked=asked, **dropped)


def test_the_highest_score_speaks_for_the_answer() -> None:
    assert best_index(expression([ONE], [2, 1])) == 1
    assert best_index(expression([ONE], [2, 1], scores=(0.1, 0.1, 0.7))) == 2
    assert best_index(expression([ONE], [2, 1], scores=(0.7, 0.7, 0.7))) == 1
    assert best_index(expression([ONE], [2, 1], scores=None)) == 1
    assert best_index(expression([ONE], [])) is None


def test_groups_are_read_together_whatever_they_are_called() -> None:
    answer = image_answer(
        "a", [("x", ONE)], [ONE, OTHER], {"he": (1,), "his hat": (0,)}, scores=[0.9, 0.1], asked=["x"]
    )
    assert referring_report([answer]).accuracy.value == 1.0


def test_accuracy_wants_more_than_one_half() -> None:
    half = expression([(0, 0, 20, 10)], [0], shown=[(0, 0, 10, 10)], scores=[1.0])
    more = expression([(0, 0, 20, 10)], [0], shown=[(0, 0, 11, 10)], scores=[1.0])
    assert referring_report([half, more]).right == (0.0, 1.0)


def test_density_f1() -> None:
    assert density_f1(expression([ONE, OTHER], [0, 1])) == 1.0
    # One of two: precision 1, recall 1/2, nothing taken off.
    assert density_f1(expression([ONE, OTHER], [0])) == pytest.approx(2 / 3)
    # Both and one more: F1 4/5, times 2/3.
    assert density_f1(expression([ONE, OTHER], [0, 1, 2])) == pytest.approx(8 / 15)
    assert density_f1(expression([ONE, OTHER], [])) == 0.0
    # IoU .6667 is right at .5, .55, .6 and .65.
    near = expression([(0, 0, 30, 10)], [0], shown=[(0, 0, 20, 10)], scores=[1.0])
    assert density_f1(near) == pytest.approx(0.4)


def test_an_answered_box_is_used_once() -> None:
    twins = expression([(10, 10, 20, 20), (11, 10, 20, 20)], [0])
    assert density_f1(twins) == pytest.approx(2 / 3)
    # The first true box takes the one that it overlaps most, and leaves the other to the second.
    pair = expression([(0, 0, 10, 10), (3, 0, 10, 10)], [0, 1], shown=[(3, 0, 10, 10), (0, 0, 10, 10)], scores=[1, 1])
    assert density_f1(pair) == 1.0


def test_expressions_that_mean_nothing() -> None:
    answers = [
        expression([], []),
        expression([], [1]),
        expression([], [], unclosed=1),
        expression([], [], out_of_range=1),
        expression([ONE], []),
        expression([ONE], [0]),
    ]
    report = referring_report(answers)
    assert [is_rejected(one) for one in answers] == [True, False, False, False, True, False]
    assert (report.rejection.value, report.rejection.n) == (0.25, 4)
    assert (report.silence.value, report.silence.n) == (0.5, 2)
    assert (report.accuracy.value, report.density_f1.value) == (0.5, 0.5)
    assert report.f1 == report.right == (1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_set_without_one_kind_has_no_number_of_it() -> None:
    report = referring_report([expression([ONE], [0])])
    assert report.rejection.value is None
    assert report.to_json()["estimates"]["rejection"] == {"value": None, "ci95": None, "n": 0}
    with pytest.raises(DpnError, match="no answered expression"):
        referring_report([])


def test_expressions_of_one_picture_hang_together() -> None:
    """Ten pictures with ten expressions each, all right or all wrong: as uncertain as ten."""
    single = [expression([ONE], [place % 2], image=f"{place}") for place in range(10)]
    many = [expression([ONE], [place % 2], image=f"{place}") for place in range(10) for _ in range(10)]
    apart = [expression([ONE], [place % 2], image=f"{place}") for place in range(100)]
    ten, together, hundred = (referring_report(one).accuracy for one in (single, many, apart))
    assert together.ci95 == ten.ci95
    assert hundred.ci95[1] - hundred.ci95[0] < 0.5 * (ten.ci95[1] - ten.ci95[0])
