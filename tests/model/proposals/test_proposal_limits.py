"""What is left of a detector's boxes."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_model.objects.boxes import box_array
from dpn_model.proposals.contract import Limits, best
from dpn_model.special_texts import MAX_OBJECTS


def test_threshold_suppression_edges_and_order() -> None:
    boxes = box_array(
        [[10, 10, 30, 30], [10, 10, 30, 29], [-5, -5, 20, 8], [60, 0, 90, 20], [0, 0, 9, 9], [10, 40, 30, 70]]
    )
    scores = np.array([0.6, 0.9, 0.3, 0.8, 0.29, 0.5])
    kept = best(boxes, scores, (50, 60), Limits())
    # The fourth lies outside, the fifth is too unsure, the first is the second again.
    assert kept.boxes.tolist() == [[10, 10, 30, 29], [10, 40, 30, 60], [0, 0, 20, 8]]
    assert kept.scores.tolist() == [0.9, 0.5, 0.3]
    assert len(best(boxes, scores, (50, 60), Limits(0.3, 1))) == 4


def test_the_best_hundred_are_kept() -> None:
    corners = np.arange(130.0)[:, None] * [3, 0]
    boxes, scores = np.concatenate([corners, corners + 2], axis=1), np.linspace(0.3, 0.9, 130)
    kept = best(boxes, scores, (1000, 10), Limits())
    assert len(kept) == MAX_OBJECTS
    np.testing.assert_array_equal(kept.scores, scores[:29:-1])
    np.testing.assert_array_equal(kept.boxes, boxes[:29:-1])


def test_no_boxes_at_all() -> None:
    kept = best(box_array([]), np.empty(0), (10, 10), Limits())
    assert (kept.boxes.shape, kept.scores.shape) == ((0, 4), (0,))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ((1.5, 0.8), "threshold is 1.5; allowed: 0 to 1"),
        ((float("nan"), 0.8), "threshold is nan"),
        ((0.3, 0.0), "nms is 0; allowed: above 0, up to 1"),
        ((0.3, -1.0), "nms is -1; allowed: above 0, up to 1"),
    ],
)
def test_limits_that_are_none_are_refused(values: tuple[float, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Limits(*values)
