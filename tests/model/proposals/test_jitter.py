"""Jittered true boxes: every object is found again, and the draw hangs on seed and record alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dpn_model.objects.boxes import box_array, iou_matrix
from dpn_model.proposals.contract import Known, Limits
from dpn_model.proposals.jitter import JitteredTruth

TRUE = box_array([[10, 10, 50, 40], [60, 60, 90, 95], [100, 5, 127, 60]])
PICTURE = Image.new("RGB", (128, 128))
RECORDS = [Known(f"r{number}", boxes=TRUE) for number in range(40)]


def test_what_spec_9_says_of_them() -> None:
    found = JitteredTruth().propose([PICTURE] * len(RECORDS), known=RECORDS)
    near_misses = 0
    for one in found:
        overlaps = iou_matrix(one.boxes, TRUE)
        best = overlaps.max(axis=0)
        assert (best > 0.7).all()
        assert len(one) <= 2 * len(TRUE) + 3
        assert (np.diff(one.scores) <= 0).all()
        of_objects = overlaps.argmax(axis=0)
        assert (one.scores[of_objects] >= 0.5).all()
        others = np.delete(overlaps, of_objects, axis=0)
        assert others.max() <= 0.45
        near_misses += int((others.max(axis=1) >= 0.3).sum())
        np.testing.assert_array_equal(one.boxes.clip(0, 128), one.boxes)
    assert 7 < np.mean([len(one) for one in found]) <= 9
    assert near_misses > 10


def test_a_draw_hangs_on_seed_and_record_alone() -> None:
    source = JitteredTruth(seed=1)
    together = source.propose([PICTURE] * 3, known=RECORDS[:3])
    (alone,) = source.propose([PICTURE], known=RECORDS[1:2])
    (other,) = JitteredTruth(seed=2).propose([PICTURE], known=RECORDS[1:2])
    np.testing.assert_array_equal(together[1].boxes, alone.boxes)
    assert together[0].boxes.tolist() != together[1].boxes.tolist() != other.boxes.tolist()


def test_a_picture_without_objects_has_background_alone() -> None:
    (found,) = JitteredTruth(limits=Limits(0, 1)).propose([PICTURE], known=[Known("empty", boxes=box_array([]))])
    assert len(found) == 3
    assert (found.scores < 0.6).all()


def test_a_picture_that_is_all_object_has_no_background() -> None:
    (found,) = JitteredTruth().propose([PICTURE], known=[Known("full", boxes=box_array([[0, 0, 128, 128]]))])
    assert (iou_matrix(found.boxes, box_array([[0, 0, 128, 128]])) > 0).all()
    assert found.scores[0] >= 0.5


def test_unknown_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is known of these pictures"):
        JitteredTruth().propose([PICTURE])
    with pytest.raises(ValueError, match="record r has no boxes"):
        JitteredTruth().propose([PICTURE], known=[Known("r")])
