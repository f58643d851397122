"""Expressions become questions for one of all boxes of a picture, by split; pickles are read as data alone."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from tests.data.convert.conftest import annotation, instances

Converted = Callable[..., tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]


def reference(number: int, split: str, picture: int, meant: Any, *texts: str) -> dict[str, Any]:
    """As RefCOCO has it, with what we do not read."""
    sentences = [
        {"sent": text, "raw": text, "sent_id": 10 * number + place, "tokens": text.split()}
        for place, text in enumerate(texts)
    ]
    file = f"COCO_train2014_{picture}_{meant}.jpg"
    return {
        "ref_id": number, "ann_id": meant, "image_id": picture, "split": split, "sentences": sentences,
        "sent_ids": [0], "category_id": 3, "file_name": file,
    }  # fmt: skip


REFERENCES = [
    reference(1, "train", 1, 11, "left cat", "the  cat\non the left", "left cat"),
    reference(2, "train", 1, 13, "dog", "cat; dog"),
    reference(3, "testA", 1, 14, "right cat"),
    reference(4, "testA", 2, 15, "a dog", "the dog"),
    reference(5, "testA", 2, 12, "the crowd"),
    reference(6, "train", 7, 11, "of a picture that is not there"),
]


@pytest.fixture
def source(coco: Callable[..., Path]) -> Callable[..., Path]:
    """A folder with expressions and instances."""

    def write(references: Any = REFERENCES, name: str = "refs(unc).p", **tables: Any) -> Path:
        folder = coco(instances(**tables), "instances.json").parent
        data = pickle.dumps(references, 2) if name.endswith(".p") else json.dumps(references).encode()
        (folder / name).write_bytes(data)
        return folder

    return write


def values(record: dict[str, Any]) -> list[str]:
    return [turn["value"] for turn in record["conversations"]]


def test_training_asks_several_questions_about_a_picture(
    converted: Converted, source: Callable[..., Path], refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    summary, records = converted("refcoco", source())
    (record,) = records["train"]

    assert values(record) == [
        "<image>\nPlease detect left cat in this image. Answer the question with object indexes.",
        "<ground>left cat</ground><objects><obj0></objects>",
        "Please detect the cat on the left in this image. Answer the question with object indexes.",
        "<ground>the cat on the left</ground><objects><obj0></objects>",
        "Please detect dog in this image. Answer the question with object indexes.",
        "<ground>dog</ground><objects><obj1></objects>",
    ]
    assert record["boxes"] == [[10, 20, 40, 60], [60.25, 5.5, 80.35, 15.7], [90, 70, 100, 80]]
    assert record["truth"] == {
        "boxes": [record["boxes"][0], record["boxes"][0], record["boxes"][1]],
        "categories": ["left cat", "the cat on the left", "dog"],
    }
    assert summary["left_out"] == {
        "boxes of no picture of the file": 1,
        "boxes without area": 1,
        "expressions of boxes that are not there": 2,
        "expressions that cannot be asked": 1,
    }
    assert refused_by_ingest([*records["train"], *records["testA"]], tmp_path / "pictures") == []


def test_elsewhere_every_question_is_a_record(converted: Converted, source: Callable[..., Path]) -> None:
    _, records = converted("refcoco", source(), ask=("detect", "describe"), turns=2)

    assert [(record["id"], record["image"]) for record in records["testA"] if record["family"] == "referring"] == [
        ("3-30-detect", "a.jpg"), ("4-40-detect", "b.jpg"), ("4-41-detect", "b.jpg"),
    ]  # fmt: skip
    described = [record for record in records["testA"] if record["family"] == "description"]
    assert values(described[0]) == [
        "<image>\nCan you provide me with a brief description of <obj2>? Answer the question with brief description.",
        "<ground>right cat</ground><objects><obj2></objects>",
    ]
    assert [len(values(record)) for record in records["train"]] == [4, 2, 4, 2]
    assert len({record["id"] for record in records["train"]}) == 4


def test_expressions_of_several_boxes_and_of_none(converted: Converted, source: Callable[..., Path]) -> None:
    """gRefCOCO's form, which is JSON."""
    references = [reference(1, "val", 1, [14, 11], "both cats"), reference(2, "val", 1, [-1], "a horse")]
    _, records = converted("refcoco", source(references, "grefs(unc).json"), ask=("detect", "describe"))

    assert [values(record)[1] for record in records["val"]] == [
        "<ground>both cats</ground><objects><obj0><obj2></objects>",
        "<ground>a horse</ground><objects></objects>",
    ]
    assert records["val"][1]["truth"] == {"boxes": [], "categories": []}


def test_of_too_many_boxes_those_that_are_meant_are_kept(converted: Converted, source: Callable[..., Path]) -> None:
    boxes = [annotation(number, 2, 3, [0, 0, 1 + number, 90]) for number in range(130)]
    references = [reference(1, split, 2, 0, "the thinnest") for split in ("train", "val")]
    references.append(reference(2, "train", 1, 999, "a cat"))
    more = [*boxes, annotation(999, 1, 3, [0, 0, 9, 9])]
    summary, records = converted("refcoco", source(references, annotations=more))

    assert summary["rows"] == {"train": 1, "val": 1}
    assert summary["left_out"] == {"training pictures with over 100 boxes": 1}
    (record,) = records["val"]
    assert (len(record["boxes"]), record["boxes"][0]) == (100, [0, 0, 1, 90])
    assert values(record)[1].endswith("<objects><obj0></objects>")


def test_a_file_may_be_named_where_a_folder_has_several(converted: Converted, source: Callable[..., Path]) -> None:
    source(name="refs(google).p")
    folder = source()
    with pytest.raises(DpnError, match=re.escape("found refs(google).p, refs(unc).p: name one as SOURCE")):
        converted("refcoco", folder)

    assert list(converted("refcoco", folder / "refs(unc).p")[1]) == ["testA", "train"]
    with pytest.raises(DpnError, match="found none: name one as SOURCE"):
        converted("refcoco", folder / "refs(umd).p")


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, ("DPN_CODE_WAS_RUN", "1")


@pytest.mark.parametrize(
    ("references", "name", "told"),
    [
        ([Runs()], "refs(unc).p", "no pickle of plain lists, dictionaries, texts and numbers (it asks for "),
        ({"refs": []}, "refs(unc).p", "holds an object with the keys refs; wanted a list of expressions"),
        ([], "refs(unc).json", "holds an empty list"),
        ([7], "refs(unc).json", "entry 0: the number 7; wanted split, image_id, ann_id and sentences of sent"),
        ([{"split": "val"}], "refs(unc).json", "entry 0: the keys are split; wanted split, image_id, ann_id"),
        ([reference(1, "../x", 1, 11, "a")], "refs(unc).json", "its split is the text '../x'; wanted a name"),
        ([reference(1, "val", 1, 11) | {"sentences": [{"sent": 1}]}], "refs(unc).json", "sentence 0 is the number 1"),
        ([reference(1, "val", 1, 77, "x")], "refs(unc).json", "has no record; nothing was written. Left out: "),
    ],
)
def test_what_is_not_refcocos_is_one_line(
    converted: Converted, source: Callable[..., Path], references: Any, name: str, told: str
) -> None:
    with pytest.raises(DpnError) as refusal:
        converted("refcoco", source(references, name))
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_instances_must_lie_beside(converted: Converted, source: Callable[..., Path]) -> None:
    folder = source()
    (folder / "instances.json").unlink()
    with pytest.raises(DpnError, match="instances.json: nothing is there"):
        converted("refcoco", folder)
