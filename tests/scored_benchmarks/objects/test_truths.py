"""What is true of a record with boxes: its truth, and boxes of a detector are never held against numbers."""

from __future__ import annotations

from typing import Any

from dpn_model.objects.record import ObjectRecord
from dpn_platform.benchmarks.objects.tasks.truths import meant_boxes, true_boxes
from tests.scored_benchmarks.objects.small_published import CONVERTED, DRAWN, SIZE, group


def of(fields: dict[str, Any]) -> ObjectRecord:
    return ObjectRecord.of_fields(fields)


def test_a_truth_is_true_and_a_gold_answer_where_there_is_none() -> None:
    record = of(DRAWN)
    assert true_boxes(record, group("star", 2), SIZE) is record.truth
    gold = f"{group('dog', 0, 1)} and {group('cat', 1)} {group('cow')}"
    bare = true_boxes(of({"boxes": CONVERTED["boxes"]}), gold, SIZE)
    assert bare.categories == ("dog", "dog", "cat")
    assert bare.boxes.tolist() == [CONVERTED["boxes"][place] for place in (0, 1, 1)]
    assert bare.crowd == (False, False, False)


def test_what_a_picture_may_show_more_of_is_a_crowd_as_large_as_the_picture() -> None:
    fields = CONVERTED | {"truth": CONVERTED["truth"] | {"incomplete": ["dog", "cow"]}}
    truth = true_boxes(of(fields), "", SIZE)
    assert truth.categories == ("dog", "dog", "cat", "dog", "cow")
    assert truth.crowd == (False, False, False, True, True)
    assert truth.boxes[3:].tolist() == [[0, 0, *SIZE]] * 2
    assert truth.area is not None
    assert truth.area.tolist() == [250, 300, 700, 8000, 8000]


def test_a_meant_box_is_the_true_one_that_the_named_one_lies_on() -> None:
    meant = meant_boxes(of(DRAWN), group("left", 0, 1), "left")
    assert meant.boxes.tolist() == [[10, 10, 30, 31], [50, 10, 70, 30]]
    assert meant.categories == ("left", "left")
    twice = [[10, 10, 30, 30], [11, 11, 31, 31]]
    assert meant_boxes(
        of(DRAWN | {"boxes": twice, "scores": [0.9, 0.8]}), group("left", 0, 1), "left"
    ).boxes.tolist() == [[10, 10, 30, 31]], "two boxes on one thing mean it once"
    assert meant_boxes(of(DRAWN), group("corner", 2), "corner").boxes.tolist() == [[70, 50, 90, 70]], "on nothing true"
    assert meant_boxes(of({"boxes": [[0, 0, 5, 5]]}), group("a", 0), "a").boxes.tolist() == [[0, 0, 5, 5]]


def test_what_means_nothing_has_no_box() -> None:
    for gold in (group("horse"), "There is no such thing in this image"):
        assert len(meant_boxes(of(CONVERTED), gold, "horse").boxes) == 0
