"""What training and evaluation show of a record's boxes."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_model.objects.answers import parse_answer, write_group
from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import ObjectRecord
from dpn_model.objects.views import asked_view, training_view

SIZE = (100, 100)
TRUE = box_array([[0, 0, 20, 20], [50, 50, 90, 90]])
#: the first true box again, one half on the second, one on nothing
OFFERED = box_array([[0, 0, 20, 19], [50, 50, 90, 75], [0, 60, 20, 80]])
RECORD = ObjectRecord(TRUE, proposed=(OFFERED, np.array([0.9, 0.8, 0.7])))
ANSWER = f"{write_group('dog', [1])}\n{write_group('cat', [])}"
TURNS: list[tuple[str, str | None]] = [("<image>\nfind dog ; cat", ANSWER), ("what is <obj0> ?", "a bird")]


def boxes_of(text: str, shown: np.ndarray, phrase: str) -> list[list[float]]:
    return sorted(shown[list(parse_answer(text, len(shown)).groups[phrase])].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_training_shuffles_true_boxes_among_proposals_unlike_them(seed: int) -> None:
    shown, turns = training_view(RECORD, TURNS, SIZE, seed)
    expected = [*TRUE.tolist(), *OFFERED[1:].tolist()]
    assert sorted(shown.boxes.tolist()) == sorted(expected)
    assert shown.scores is None
    assert boxes_of(turns[0][1] or "", shown.boxes, "dog") == [[50, 50, 90, 90]]
    assert boxes_of(turns[0][1] or "", shown.boxes, "cat") == []
    place = int(turns[1][0].partition("<obj")[2].partition(">")[0])
    assert shown.boxes[place].tolist() == [0, 0, 20, 20]


def test_orders_differ_by_seed_alone() -> None:
    first, second, again = (training_view(RECORD, TURNS, SIZE, seed)[0].boxes.tolist() for seed in (1, 2, 1))
    assert first == again
    assert first != second


def test_half_on_an_object_can_be_an_answer_too() -> None:
    shown, turns = training_view(RECORD, TURNS, SIZE, 0, "iou50")
    assert boxes_of(turns[0][1] or "", shown.boxes, "dog") == [[50, 50, 90, 75], [50, 50, 90, 90]]
    indices = parse_answer(turns[0][1] or "", 4).groups["dog"]
    assert list(indices) == sorted(indices)


def test_what_is_counted_or_asked_by_number_is_about_those_boxes_alone() -> None:
    counted = [
        ("<image>\nhow many dogs", f"one {write_group('dog', [1])}"),
        ("what is <obj1>", write_group("dog", [1])),
    ]
    shown, turns = training_view(RECORD, counted, SIZE, 0, "iou50")
    for _, reply in turns:
        assert boxes_of(reply or "", shown.boxes, "dog") == [[50, 50, 90, 90]]


def test_at_most_a_hundred_are_shown_and_none_that_is_named_is_left_out() -> None:
    many = box_array([[number, 0, number + 1, 1] for number in range(99)] * 2)
    record = ObjectRecord(TRUE, proposed=(many, np.linspace(1, 0, len(many))))
    shown, turns = training_view(record, TURNS, SIZE, 0)
    assert len(shown) == 100
    assert boxes_of(turns[0][1] or "", shown.boxes, "dog") == [[50, 50, 90, 90]]
    assert len(asked_view(record, "find dog", SIZE)) == 100


def test_a_question_is_asked_with_proposals_unless_it_names_boxes() -> None:
    assert asked_view(RECORD, "find dog", SIZE).boxes.tolist() == OFFERED.tolist()
    assert asked_view(RECORD, "what is <obj0> ?", SIZE).boxes.tolist() == TRUE.tolist()
    assert asked_view(RECORD, "find dog", SIZE, given=True).boxes.tolist() == TRUE.tolist()
    scored = ObjectRecord(TRUE, np.array([0.9, 0.8]))
    assert asked_view(scored, "find dog", SIZE).scores is scored.scores


def test_a_box_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="<obj7> is named"):
        training_view(RECORD, [("<image>\nwhat is <obj7>", "x")], SIZE, 0)
