"""Records of boxes: round trip and refusals."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dpn_model.objects.record import ObjectRecord

WHOLE: dict[str, Any] = {
    "boxes": [[0, 0, 10, 10], [5, 5, 20, 20]],
    "scores": [0.9, 0.4],
    "truth": {
        "boxes": [[0, 0, 10, 11]],
        "categories": ["cat"],
        "crowd": [True],
        "area": [70.5],
        "frequencies": {"cat": "r"},
    },
    "proposals": {"boxes": [[1, 1, 2, 2]], "scores": [0.5]},
}


def test_what_a_record_says_survives_its_column() -> None:
    record = ObjectRecord.of_fields(WHOLE, (32, 32))
    again = ObjectRecord.of_json(record.to_json())
    assert again.to_json() == record.to_json()
    assert again.truth is not None
    assert again.truth.categories == ("cat",)
    assert again.truth.crowd == (True,)
    assert again.truth.extra == {"frequencies": {"cat": "r"}}
    assert again.truth.area is not None
    assert again.truth.area.tolist() == [70.5]
    bare = ObjectRecord.of_fields({"boxes": [], "truth": {"boxes": [[0, 0, 1, 1]], "categories": ["a"]}})
    assert bare.truth is not None
    assert bare.truth.area is None
    assert "area" not in bare.to_json()
    assert ObjectRecord.of_json(ObjectRecord.of_fields({"boxes": []}).to_json()).scores is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"boxes": None}, "boxes is NoneType; wanted a list of [x1, y1, x2, y2]"),
        ({"boxes": [[0, 0, 40, 10], [5, 5, 20, 20]]}, "boxes[0] = [0, 0, 40, 10] is outside the picture of 32 x 32"),
        ({"boxes": [[0, 0, 1, 1]] * 101, "scores": None}, "101 boxes; allowed: at most 100"),
        ({"scores": [0.4, 0.9]}, "scores are not sorted: scores[1] is larger than the one before"),
        ({"scores": [0.4]}, "scores hold 1 numbers for 2 boxes"),
        ({"scores": [0.4, float("nan")]}, "scores are not all finite"),
        ({"proposals": {"boxes": [[1, 1, 2, 2]]}}, "proposals have no scores"),
        ({"proposals": {"boxes": [[1, 1, 1, 2]], "scores": [1]}}, "proposals.boxes[0] = [1, 1, 1, 2] has no area"),
        ({"truth": {"boxes": [[0, 0, 1, 1]], "categories": []}}, "truth has 1 boxes, 0 categories and 1 crowd marks"),
        ({"truth": []}, "truth is list; wanted an object"),
        ({"truth": {"boxes": [], "categories": [], "crowd": 1}}, "truth.crowd is int; wanted a list"),
        ({"truth": WHOLE["truth"] | {"area": [1, 2]}}, "truth.area holds 2 numbers for 1 boxes; wanted one for each"),
        ({"truth": WHOLE["truth"] | {"area": [-1]}}, "truth.area holds what is no number of pixels"),
        ({"truth": WHOLE["truth"] | {"area": ["large"]}}, "truth.area is no list of numbers"),
        ({"boxes": [[0, 0, 10**400, 1]], "scores": None}, "boxes are no list of [x1, y1, x2, y2] numbers"),
        ({"scores": [10**400, 1]}, "scores are no list of numbers"),
    ],
)
def test_refusals_are_one_line(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        ObjectRecord.of_fields(WHOLE | changed, (32, 32))
