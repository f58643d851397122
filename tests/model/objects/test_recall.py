"""Recall of proposals, with spec chatrex 10.4."""

from __future__ import annotations

import numpy as np

from dpn_model.objects.boxes import box_array
from dpn_model.objects.recall import OVERLAPS, found_at

#: (true, proposed) of three pictures, as x, y, w, h
IMAGES = [
    (
        [(10, 10, 20, 20), (60, 10, 20, 20), (10, 60, 30, 30)],
        [(10, 10, 20, 20), (62, 11, 20, 20), (10, 60, 30, 30), (12, 14, 20, 20), (80, 80, 10, 10)],
    ),
    ([(30, 30, 40, 40)], [(30, 30, 40, 40), (50, 50, 30, 30)]),
    ([(5, 5, 20, 20), (50, 50, 40, 40)], [(5, 5, 20, 20), (52, 54, 40, 40), (20, 5, 20, 20)]),
]


def test_recall_of_the_specs_example() -> None:
    total = sum(
        found_at(*(box_array([(x, y, x + w, y + h) for x, y, w, h in part]) for part in pair)) for pair in IMAGES
    )
    np.testing.assert_array_equal(OVERLAPS.round(2), [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    np.testing.assert_array_equal(total, [6] * 5 + [4] * 5)
    assert (total / 6).mean().round(6) == 0.833333


def test_nothing_is_found_among_nothing() -> None:
    assert found_at(box_array([[0, 0, 1, 1]]), box_array([])).tolist() == [0] * 10
    assert found_at(box_array([]), box_array([[0, 0, 1, 1]])).tolist() == [0] * 10


def test_one_proposal_may_cover_two() -> None:
    assert found_at(box_array([[0, 0, 10, 10], [0, 0, 10, 9]]), box_array([[0, 0, 10, 10]]))[[0, 8, 9]].tolist() == [
        2,
        2,
        1,
    ]
