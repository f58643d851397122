"""LVIS knows of categories that are absent and of boxes that are missing: questions and truth heed both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from tests.data.convert.conftest import instances
from tests.data.convert.test_convert_coco import asked

Converted = Callable[..., tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]


def lvis(**changes: Any) -> dict[str, Any]:
    """Version 1: pictures by address, categories with underscores; dogs of picture 1 are not all boxed."""
    tables = instances()
    for picture in tables["images"]:
        picture["coco_url"] = f"http://images.cocodataset.org/train2017/{picture.pop('file_name')}"
        picture |= {"neg_category_ids": [8] if picture["id"] == 1 else [], "not_exhaustive_category_ids": []}
    tables["images"][0]["not_exhaustive_category_ids"] = [5]
    for category in tables["categories"]:
        category |= {"name": category["name"].replace(" ", "_"), "frequency": "r" if category["id"] == 3 else "f"}
    return tables | changes


def test_incomplete_categories_are_asked_for_in_evaluation_alone(
    converted: Converted, coco: Callable[..., Path], refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    _, records = converted("lvis", coco(lvis(), "lvis_v1_train.json"), absent=5)
    _, more = converted("lvis", coco(lvis(), "lvis_v1_val.json"), absent=5, to="val")
    train, val = records["train"][0], more["val"][0]

    # The dog is shown and not asked for: more of them may be there. Of absent categories one is known.
    assert asked(train) == {"cat": [0, 2], "traffic light": []}
    assert asked(val) == {"cat": [0, 2], "dog": [1], "traffic light": []}
    assert train["boxes"] == val["boxes"]
    assert train["truth"] == {
        "boxes": train["boxes"],
        "categories": ["cat", "dog", "cat"],
        "frequencies": {"cat": "r", "dog": "f", "traffic light": "f"},
        "absent": ["traffic light"],
        "incomplete": ["dog"],
    }
    assert train["image"] == "train2017/a.jpg"
    (tmp_path / "train2017").symlink_to(tmp_path / "pictures")
    assert refused_by_ingest([*records["train"], *more["val"]], tmp_path) == []


def test_boxes_are_described_whether_or_not_all_are_there(converted: Converted, coco: Callable[..., Path]) -> None:
    tables = lvis(annotations=[one for one in instances()["annotations"] if one["category_id"] == 5])
    summary, records = converted("lvis", coco(tables, "lvis_v1_train.json"), ask=("detect", "describe"))

    assert [record["id"] for record in records["train"]] == ["1-names", "2", "2-names"]
    assert summary["left_out"]["pictures without anything to ask for"] == 1


def test_a_file_without_lvis_lists_is_sent_to_coco(converted: Converted, coco: Callable[..., Path]) -> None:
    with pytest.raises(DpnError, match="picture 1 has no neg_category_ids of its categories; a file without them is r"):
        converted("lvis", coco(instances(), "lvis_v1_train.json"))
    tables = lvis()
    tables["images"][0]["not_exhaustive_category_ids"] = [77]
    with pytest.raises(DpnError, match="picture 1 has no not_exhaustive_category_ids of its categories"):
        converted("lvis", coco(tables, "lvis_v1_train.json"))


def test_lists_of_pictures_alone_are_passed_over(converted: Converted, coco: Callable[..., Path]) -> None:
    coco({"images": []}, "lvis_v1_image_info_test_dev.json")
    file = coco(lvis(), "lvis_v1_val.json")

    assert list(converted("lvis", file.parent)[1]) == ["val"]
