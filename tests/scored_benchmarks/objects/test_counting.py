"""Counting: the number that an answer says, and the boxes that it names beside."""

from __future__ import annotations

import pytest

from dpn_platform.benchmarks.objects.counting import CountAnswer, counting_report, said_number, true_number
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.objects.small_detections import image_answer

BOX = (10, 10, 20, 20)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("There are 3 <ground>dogs</ground><objects><obj0><obj1><obj12></objects>.", 3),
        ("There are three dogs, 2 of them brown.", 3),
        ("12", 12),
        ("I count 12.", 12),
        ("There are twenty-one.", 21),
        ("Nineteen!", 19),
        ("1,200 people", 1200),
        ("There are no dogs.", 0),
        ("None of them", 0),
        ("No, there are 4.", 4),
        ("There is no such thing in this image", 0),
        ("<ground>dog</ground><objects><obj3></objects>", None),
        ("about 3.5", None),
        ("many dogs, and someone beside", None),
        ("a 4x4", None),
        ("", None),
    ],
)
def test_the_number_of_an_answer(text: str, wanted: int | None) -> None:
    assert said_number(text) == wanted


def test_what_is_asked_for_is_counted() -> None:
    """A picture with three dogs, a cat and a pack of dogs."""
    truth = image_answer(
        "a", [("Dog", BOX)] * 3 + [("cat", BOX), ("dog", BOX)], [], {}, crowd=[False] * 4 + [True]
    ).truth
    assert (true_number(truth, ["dog."]), true_number(truth, ["dog", "cat"]), true_number(truth, ["cow"])) == (3, 4, 0)


def test_numbers_against_the_truth_and_the_boxes() -> None:
    answers = [
        CountAnswer("a", "3 dogs", 3, 3),
        CountAnswer("a", "There are two dogs", 2, 3),
        CountAnswer("b", "several", 2, 2),
        CountAnswer("c", "no dogs", 0, 0),
    ]
    report = counting_report(answers)
    assert report.said == (3, 2, None, 0)
    assert (report.accuracy.value, report.accuracy.n) == (0.5, 4)
    assert (report.error.value, report.error.n) == (pytest.approx(1 / 3), 3)
    assert report.listed.value == 0.75
    assert report.agreement.value == 0.75
    assert report.unsaid == 1
    document = report.to_json()
    assert (document["unsaid"], document["estimates"]["accuracy"]["value"]) == (1, 50.0)
    assert document["error"]["value"] == report.error.value, "in things"


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(DpnError, match="no answered count"):
        counting_report([])
