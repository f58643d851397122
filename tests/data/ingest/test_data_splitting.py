"""Which records belong to which split: by their own word, or held out by picture."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import BuildOptions, build_shard
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import RawSource, file_source
from dpn_platform.data.ingest.splitting import split_records, with_hold_out, with_named_splits


def source(folder: Path, records: Iterable[Any], **files: Iterable[Any]) -> RawSource:
    """Files of JSON lines: `records` as train, others by name."""
    named = []
    for name, rows in {"train": records, **files}.items():
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        named.append(f"{name}={folder}/{name}.jsonl")
    return file_source(named)


def split_of(raw: RawSource, split: str) -> list[Any]:
    return [json.loads(record) for uri in raw.files(split) for record in split_records(raw, split, uri)]


def question(number: int, picture: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "image": picture, "question": f"q{number}", "answer": "a", **more}


def test_no_picture_is_on_both_sides_of_a_hold_out(tmp_path: Path) -> None:
    rows = [question(number, f"{number // 3}.jpg") for number in range(3000)]
    rows[1]["image"] = "./0.jpg"
    raw = with_hold_out(source(tmp_path, rows), 0.1)
    train, test = split_of(raw, "train"), split_of(raw, "test")

    assert raw.splits == ["test", "train"]
    assert sorted(row["id"] for row in train + test) == list(range(3000))
    pictures = [{row["image"].removeprefix("./") for row in part} for part in (train, test)]
    assert not pictures[0] & pictures[1]
    assert 0.07 < len(pictures[1]) / 1000 < 0.13  # 0.1 +- three standard deviations
    fewer = with_hold_out(source(tmp_path, rows[:600]), 0.1)
    assert split_of(fewer, "test") == [row for row in test if row["id"] < 600]


def test_a_table_and_a_folder_of_pictures_become_two_splits(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        Image.new("RGB", (16, 12), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    lines = [f"{number}.png,how many {what}?,{number},counting" for number in range(40) for what in ("dots", "lines")]
    (tmp_path / "questions.csv").write_text("\n".join(["image,question,answer,family", *lines]))
    raw = with_hold_out(file_source([f"{tmp_path}/questions.csv"], [f"{tmp_path}/pictures"]), 0.2)
    files: dict[str, Any] = {}
    parts = list(read_slices(raw, f"{tmp_path}/out", BuildOptions(raw.image_roots), 1000, files))
    built = {part.split: build_shard(part) for part in parts}

    assert {split: result["rejected"] for split, result in built.items()} == {"test": [], "train": []}
    rows = {split: result["shard"]["rows"] for split, result in built.items()}
    assert rows == {"test": 18, "train": 62}
    assert {split: files[split][0].rows for split in files} == rows
    assert built["test"]["sources"] == {"counting": 18}


def test_texts_are_held_out_by_what_they_ask_and_junk_stays_in_train(tmp_path: Path) -> None:
    texts = [{"id": n, "conversations": [{"from": "human", "value": f"q{n % 50}"}]} for n in range(100)]
    raw = with_hold_out(source(tmp_path, [*texts, "junk", [1]]), 0.5)
    asked = [
        {json.dumps(row["conversations"]) for row in split_of(raw, split) if isinstance(row, dict)}
        for split in raw.splits
    ]

    assert not asked[0] & asked[1]
    assert len(asked[0] | asked[1]) == 50
    assert split_of(raw, "train")[-2:] == ["junk", [1]]


def test_a_hold_out_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    rows = [question(0, "x.jpg")]
    with pytest.raises(DpnError, match="--hold-out 0.1 makes a split 'test' of 'train'; .* splits: test, train"):
        with_hold_out(source(tmp_path, rows, test=rows), 0.1)
    several = with_hold_out(source(tmp_path, [{**rows[0], "image": ["x.jpg", "y.jpg"]}]), 0.1)
    with pytest.raises(DpnError, match="a record has 2 pictures, which --hold-out cannot keep apart"):
        split_of(several, "train")
    assert with_hold_out(several, 0) is several


def test_records_that_name_their_split_are_divided(tmp_path: Path) -> None:
    rows = [question(number, "x.jpg", split=("train", "val", "")[number % 3]) for number in range(6)]
    raw = with_named_splits(source(tmp_path, rows))

    assert raw.splits == ["train", "val"]
    assert [[row["id"] for row in split_of(raw, split)] for split in raw.splits] == [[0, 2, 3, 5], [1, 4]]
    held_out = with_hold_out(raw, 0.5)
    assert sorted(row["id"] for split in ("train", "test") for row in split_of(held_out, split)) == [0, 2, 3, 5]
    assert [row["id"] for row in split_of(held_out, "val")] == [1, 4]


def test_a_name_that_contradicts_the_records_is_refused(tmp_path: Path) -> None:
    rows = [question(0, "x.jpg", split="train")]
    with pytest.raises(DpnError, match=r"name their splits .train.; it cannot be given as val"):
        with_named_splits(source(tmp_path, [question(1, "x.jpg")], val=rows))
    with pytest.raises(DpnError, match="name their splits .*; 'a b' is no name"):
        with_named_splits(source(tmp_path, [*rows, question(1, "x.jpg", split="a b")]))
