"""Proposals from a file: found by image or id, and refused by line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_model.proposals.contract import Known, Limits
from dpn_model.proposals.files import ProposalFile

PICTURE = Image.new("L", (100, 50))


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "proposals.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return file


def line(boxes: Any = ((0, 0, 10, 10),), scores: Any = (0.5,), **key: Any) -> dict[str, Any]:
    return {**(key or {"id": "a"}), "boxes": boxes, "scores": scores}


def test_boxes_are_found_by_image_or_id(tmp_path: Path) -> None:
    first = line([[0, 0, 10, 10], [20, 5, 60, 50], [20, 5, 60, 49]], [0.9, 0.8, 0.7], image="coco/1.jpg")
    file = written(tmp_path, first, "\n", line(id=7), line([[1, 1, 5, 5]], [0.2], id="low"))
    source = ProposalFile(file, Limits(0.3, 0.8))
    known = [Known("x", "coco/1.jpg"), Known("7"), Known("low"), Known("none", "coco/2.jpg"), Known("coco/1.jpg")]

    found = source.propose([PICTURE] * 5, known=known)

    assert [one.boxes.tolist() for one in found] == [
        [[0, 0, 10, 10], [20, 5, 60, 50]],
        [[0, 0, 10, 10]],
        [],
        [],
        [],
    ]
    assert found[0].scores.tolist() == [0.9, 0.8]
    assert len(source) == 3
    assert [source.knows(one) for one in known] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("{not json}\n", "no JSON"),
        ("[1, 2]\n", "wanted an object with image or id, boxes and scores"),
        ({"boxes": [], "scores": []}, "wanted an object with image or id, boxes and scores"),
        ({"id": "b", "boxes": [[0, 0, 1, 1]]}, "proposals have no scores; wanted one for each box"),
        ({"id": "b", "scores": [0.5]}, "boxes is NoneType; wanted a list"),
        (line(scores=[0.5, 0.4], id="b"), "scores hold 2 numbers for 1 boxes"),
        (line([[0, 0, 1, 1], [0, 0, 2, 2]], [0.4, 0.5], id="b"), "scores are not sorted: scores[1] is larger"),
        (line([[0, 0, float("nan"), 1]], id="b"), "boxes[0] = [0, 0, nan, 1] is not finite"),
        (line(scores=[float("nan")], id="b"), "scores are not all finite"),
        (line([[5, 5, 5, 9]], id="b"), "boxes[0] = [5, 5, 5, 9] has no area"),
        (line([[-1, 0, 5, 9]], id="b"), "boxes[0] = [-1, 0, 5, 9] is outside the picture"),
        (line(id="a"), "id a again, as in line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, second: Any, told: str) -> None:
    file = written(tmp_path, line(id="a"), second)
    with pytest.raises(ValueError, match=re.escape(f"{file}:2: ") + ".*" + re.escape(told)):
        ProposalFile(file)


def test_a_box_outside_its_picture_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, line([[0, 0, 100, 51]]))
    with pytest.raises(ValueError, match=r"jsonl:1: boxes\[0\] = \[0, 0, 100, 51\] is outside the picture of 100 x 50"):
        ProposalFile(file).propose([PICTURE], known=[Known("a")])


def test_pictures_of_which_nothing_is_known_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="by image or id, and neither is known"):
        ProposalFile(written(tmp_path, line())).propose([PICTURE])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone.jsonl: no such file"):
        ProposalFile(tmp_path / "gone.jsonl")
