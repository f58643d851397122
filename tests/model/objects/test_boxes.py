"""Geometry of boxes, with spec chatrex 10.1 and 10.4."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dpn_model.objects.boxes import box_array, check_boxes, iou_matrix, on_square, suppressed, unlike


def test_boxes_on_the_padded_square() -> None:
    first = on_square(box_array([[100, 100, 200, 200]]), (640, 480), 768)
    second = on_square(box_array([[10, 20, 110, 220]]), (333, 500), 768)
    np.testing.assert_allclose(first, [[120, 216, 240, 336]])
    np.testing.assert_allclose(second, [[142.848, 30.72, 296.448, 337.92]])


def test_overlaps_of_the_near_misses() -> None:
    pairs = [
        ([60, 10, 80, 30], [62, 11, 82, 31], 0.7467),
        ([50, 50, 90, 90], [52, 54, 92, 94], 0.7467),
        ([10, 10, 30, 30], [12, 14, 32, 34], 0.5625),
        ([30, 30, 70, 70], [50, 50, 80, 80], 0.1905),
    ]
    for one, other, wanted in pairs:
        assert iou_matrix(box_array([one]), box_array([other]))[0, 0] == pytest.approx(wanted, abs=5e-5)
    assert iou_matrix(box_array([]), box_array([[0, 0, 1, 1]])).shape == (0, 1)


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    boxes = box_array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 0, 10, 5]])
    assert suppressed(boxes, np.array([0.5, 0.9, 0.5, 0.8]), 0.8).tolist() == [1, 3, 2]
    assert suppressed(boxes, np.array([0.5, 0.5, 0.5, 0.5]), 0.4).tolist() == [0, 2]
    assert suppressed(box_array([]), np.array([]), 0.8).tolist() == []


def test_a_proposal_on_a_true_box_is_that_box_again() -> None:
    true = box_array([[0, 0, 100, 100]])
    offered = box_array([[0, 0, 100, 95], [0, 0, 100, 90], [0, 0, 50, 50]])
    assert unlike(offered, true).tolist() == [1, 2]
    assert unlike(offered, box_array([])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ([0, 0, 5, float("nan")], "boxes[0] = [0, 0, 5, nan] is not finite"),
        ([5, 0, 5, 9], "has no area; wanted x1 < x2 and y1 < y2"),
        ([0, 0, 65, 9], "is outside the picture of 64 x 48"),
        ([-1, 0, 6, 9], "is outside the picture of 64 x 48"),
    ],
)
def test_what_is_no_box_is_refused(box: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        check_boxes(box_array([box]), (64, 48))


def test_what_is_no_list_of_boxes_is_refused() -> None:
    for wrong in ([[1, 2, 3]], [["a", 1, 2, 3]], [1, 2, 3, 4], [[1, 2, 3, 4], [1, 2]]):
        with pytest.raises(ValueError, match="boxes"):
            box_array(wrong)  # type: ignore[arg-type]
