"""COCO's instances become detection records whose answers name their boxes, and that ingest takes as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from tests.data.convert.conftest import annotation, instances

Converted = Callable[..., tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]
Write = Callable[..., Path]
QUESTION = re.compile(r"<image>\nPlease detect (.*) in this image\. Answer the question with object indexes\.")


def asked(record: dict[str, Any]) -> dict[str, list[int]]:
    """The categories of a detection record's question, each with the indices of its group."""
    question, answer = (turn["value"] for turn in record["conversations"])
    match = QUESTION.fullmatch(question)
    assert match is not None
    groups = re.findall(r"<ground>(.*?)</ground><objects>(.*?)</objects>(?:\n|$)", answer)
    assert [phrase for phrase, _ in groups] == match[1].split("; ")
    return {phrase: [int(index) for index in re.findall(r"<obj(\d+)>", named)] for phrase, named in groups}


def test_a_picture_becomes_a_question_for_what_is_in_it(
    converted: Converted, coco: Write, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    summary, records = converted("coco", coco(instances()))
    first, second = records["train"]

    # The boxes at the right edge are cut off; what is left of the last one has no area.
    assert first["boxes"] == [[10, 20, 40, 60], [60.25, 5.5, 80.35, 15.7], [90, 70, 100, 80]]
    assert first["truth"] == {"boxes": first["boxes"], "categories": ["cat", "dog", "cat"]}
    assert asked(first) == {"cat": [0, 2], "dog": [1]}
    assert (first["id"], first["image"], first["family"]) == ("1", "a.jpg", "detection")
    # A crowd is true, and neither shown nor asked for.
    assert (second["boxes"], asked(second)) == ([[150, 50, 160, 60]], {"dog": [0]})
    assert second["truth"]["categories"] == ["person", "dog"]
    assert second["truth"]["crowd"] == [True, False]
    assert summary["rows"] == {"train": 2}
    assert summary["left_out"] == {
        "boxes of no picture of the file": 1,
        "boxes without area": 1,
        "pictures without anything to ask for": 1,
    }
    assert refused_by_ingest(records["train"], tmp_path / "pictures") == []


def test_areas_of_outlines_are_kept_where_every_annotation_of_a_picture_has_one(
    converted: Converted, coco: Write, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    tables = instances()
    for number, one in enumerate(tables["annotations"]):
        one["area"] = 100.5 + number
    del next(one for one in tables["annotations"] if one["image_id"] == 2)["area"]
    _, records = converted("coco", coco(tables))
    first, second = (record["truth"] for record in records["train"])
    kept = [one["area"] for one in tables["annotations"] if one["image_id"] == 1][: len(first["boxes"])]
    assert first["area"] == kept
    assert "area" not in second
    assert refused_by_ingest(records["train"], tmp_path / "pictures") == []


def test_absent_categories_are_asked_for_and_have_empty_groups(
    converted: Converted, coco: Write, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    _, records = converted("coco", coco(instances()), absent=2)
    first, second, third = map(asked, records["train"])

    assert {name: indices for name, indices in first.items() if indices} == {"cat": [0, 2], "dog": [1]}
    assert len(first) == 4
    # Of the crowd's category nothing can be said.
    assert second == {"dog": [0]} | {name: [] for name in second if name != "dog"}
    assert len(second) == 3
    assert "person" not in second
    assert (len(third), set(map(len, third.values()))) == (2, {0})
    assert refused_by_ingest(records["train"], tmp_path / "pictures") == []
    assert converted("coco", coco(instances()), absent=2, to="again")[1] == records
    others = [converted("coco", coco(instances()), absent=2, seed=seed, to=f"s{seed}")[1] for seed in range(1, 5)]
    assert any(other != records for other in others)


def crowded(count: int) -> dict[str, Any]:
    """A picture of so many boxes: the small ones are cats, and the smallest is the only zebra."""
    boxes = [annotation(number, 2, 3 if number % 2 else 5, [0, 0, 1 + number, 90]) for number in range(1, count)]
    return instances(annotations=[*boxes, annotation(0, 2, 9, [0, 0, 1, 1])])


@pytest.mark.parametrize(("count", "rows"), [(100, 1), (101, 0)])
def test_more_boxes_than_can_be_named_are_left_out_of_training(
    converted: Converted, coco: Write, count: int, rows: int
) -> None:
    tables = crowded(count)
    tables["annotations"].append(annotation(999, 1, 3, [0, 0, 9, 9]))
    summary, records = converted("coco", coco(tables))

    assert len(records["train"]) == rows + 1
    assert summary["left_out"].get("training pictures with over 100 boxes", 0) == 1 - rows


def test_elsewhere_the_largest_boxes_are_named_and_the_truth_is_whole(
    converted: Converted, coco: Write, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    _, records = converted("coco", coco(crowded(121), "instances_val2017.json"))
    (record,) = records["val"]

    assert (len(record["boxes"]), len(record["truth"]["boxes"])) == (100, 121)
    assert [len(indices) for indices in asked(record).values() if len(indices) == 1] == [1]
    assert asked(record)["zebra"] == [99]
    assert min(box[2] for box in record["boxes"][:99]) == 23
    assert refused_by_ingest(records["val"], tmp_path / "pictures") == []


def test_boxes_are_described_in_one_record_of_training_and_one_by_one_elsewhere(
    converted: Converted, coco: Write, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    _, records = converted("coco", coco(instances()), ask=("describe",), turns=2)
    first = records["train"][0]
    values = [turn["value"] for turn in first["conversations"]]

    assert len(values) == 4
    assert re.fullmatch(r"<image>\nWhat is the category name of <obj\d>\? Answer the question with .*", values[0])
    named = {int(answer[-12]): re.findall(r"<ground>(.*)</ground>", answer)[0] for answer in values[1::2]}
    assert named.items() <= {0: "cat", 1: "dog", 2: "cat"}.items()
    assert "truth" not in first
    _, elsewhere = converted("coco", coco(instances(), "instances_val2017.json"), ask=("detect", "describe"))
    assert [len(record["conversations"]) for record in elsewhere["val"]] == [2] * 6
    assert len({record["id"] for record in elsewhere["val"]}) == 6
    assert refused_by_ingest([*records["train"], *elsewhere["val"]], tmp_path / "pictures") == []


def test_a_folder_of_several_files_gives_several_splits(converted: Converted, coco: Write, tmp_path: Path) -> None:
    for name in ("annotations/instances_train2017.json", "annotations/instances_val2017.json"):
        coco(instances(), name)
    coco([], "annotations/captions_val2017.json")
    _, records = converted("coco", tmp_path / "source", prefix="coco/train2017/")

    assert {split: len(rows) for split, rows in records.items()} == {"train": 2, "val": 2}
    assert records["val"][0]["image"] == "coco/train2017/a.jpg"
    with pytest.raises(DpnError, match="--split x: .* holds several files"):
        converted("coco", tmp_path / "source", split="x")


def test_a_split_that_is_there_is_replaced_only_when_forced(converted: Converted, coco: Write) -> None:
    converted("coco", coco(instances()))
    converted("coco", coco(instances(), "instances_val2017.json"))  # another split beside it

    with pytest.raises(DpnError, match=r"raw/train.jsonl is there already; choose another folder, or --force"):
        converted("coco", coco(instances()))
    assert len(converted("coco", coco(instances()), absent=1, force=True)[1]["train"]) == 3


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ("[]", "expected an object of lists (images, annotations, categories)"),
        ({"images": []}, "no 'images'; wanted COCO's instances, lists of images, annotations, categories"),
        (instances(categories=[]), "no 'categories'"),
        (instances(images=[7]), "an entry of 'images' is the number 7; wanted an object"),
        (
            instances(images=[{"id": 1, "file_name": "a.jpg"}]),
            "picture 1 has width null and height null; wanted pixels",
        ),
        (instances(images=[{"id": 1, "width": 5, "height": 5}]), "picture 1 names no file; its keys are id, width"),
        (instances(images=[{"id": None}]), "an entry of 'images' has the id null; wanted an id"),
        (instances(images=instances()["images"] * 2), "picture 1 is there twice"),
        (
            instances(annotations=[annotation(5, 1, 3, [1, 2, 3])]),
            "the bbox of annotation 5 of picture 1 is [1, 2, 3];",
        ),
        (instances(annotations=[annotation(5, 1, 3, [1, 2, 3, "4"])]), "wanted [x, y, width, height]"),
        (instances(annotations=[annotation(5, 1, 3, [1, 2, 3, float("nan")])]), "is [1, 2, 3, nan]; wanted"),
        (instances(annotations=[annotation(5, 1, 77, [1, 2, 3, 4])]), "annotations have the category 77, which"),
        (
            instances(categories=[{"id": 3, "name": "cat; dog"}]),
            "category 3 is called the text 'cat; dog'; wanted a name",
        ),
        (instances(categories=[{"id": 3, "name": "<obj1>"}]), "category 3 is called"),
        (instances(annotations=[]), "split 'train' has no record; nothing was written. Left out: pictures without a"),
    ],
)
def test_what_is_not_cocos_is_one_line(
    converted: Converted, coco: Write, tmp_path: Path, tables: Any, told: str
) -> None:
    with pytest.raises(DpnError) as refusal:
        converted("coco", coco(tables))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "raw").exists()


def test_names_that_tell_no_split_are_refused(converted: Converted, coco: Write, tmp_path: Path) -> None:
    with pytest.raises(DpnError, match=r"boxes.json: its name tells no split \(train, val, ...\); give it by --split"):
        converted("coco", coco(instances(), "boxes.json"))
    assert list(converted("coco", coco(instances(), "boxes.json"), split="mine")[1]) == ["mine"]
    with pytest.raises(DpnError, match=r"none: no such file, nor a folder with instances_\*.json"):
        converted("coco", tmp_path / "none")


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("voc", {}, "there is no kind 'voc' of sources; allowed are coco, lvis, refcoco, rexverse"),
        ("coco", {"boxes": "xywh"}, "--boxes says nothing of coco; it is for rexverse"),
        ("refcoco", {"absent": 1}, "--absent says nothing of refcoco; it is for coco, lvis"),
    ],
)
def test_options_of_other_kinds_are_refused(
    converted: Converted, tmp_path: Path, kind: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(DpnError, match=re.escape(told)):
        converted(kind, tmp_path, **options)
