"""The demo set on disk: LLaVA's layout, records that depend on nothing but (seed, split, number), clear refusals."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dpn_platform.config.errors import DpnError
from dpn_platform.demo.build import make_demo
from dpn_platform.demo.families import FAMILIES, VISUAL_FAMILIES
from dpn_platform.demo.recipe import DemoRecipe
from dpn_platform.storage import list_files, read_bytes, read_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(str(folder), DemoRecipe(num_train=60, num_test=10, image_size=48))
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below the folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_llavas(made: Path) -> None:
    for split, size in (("train", 60), ("test", 10)):
        records: list[dict[str, Any]] = read_json(f"{made}/{split}.json")
        assert len({record["id"] for record in records}) == size
        for record in records:
            turns = record["conversations"]
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert turns[0]["value"].startswith("<image>\n") == ("image" in record)
            assert sum(turn["value"].count("<image>") for turn in turns) == ("image" in record)
            assert record["family"] in FAMILIES
            assert record["difficulty"] in {"easy", "medium", "hard"}


def test_every_picture_is_a_jpeg_in_a_sub_folder_and_belongs_to_a_record(made: Path) -> None:
    records = [*read_json(f"{made}/train.json"), *read_json(f"{made}/test.json")]
    named = {record["image"] for record in records if "image" in record}
    assert named == {path.removeprefix(f"file://{made}/") for path in list_files(str(made), ".jpg")}
    for name in named:
        image = Image.open(io.BytesIO(read_bytes(made / name)))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))


def test_there_are_text_only_and_multi_turn_records_for_training(made: Path) -> None:
    records = read_json(f"{made}/train.json")
    assert {"image" in record for record in records} == {True, False}
    assert max(len(record["conversations"]) for record in records) > 2
    assert set(Counter(record["family"] for record in records)) == set(FAMILIES)


def test_the_test_split_asks_every_visual_family_once_per_record(made: Path) -> None:
    records = read_json(f"{made}/test.json")
    assert Counter(record["family"] for record in records) == dict.fromkeys(VISUAL_FAMILIES, 2)
    assert all(len(record["conversations"]) == 2 for record in records)


def test_with_captions_every_picture_is_described_last(tmp_path: Path) -> None:
    make_demo(str(tmp_path), DemoRecipe(num_train=40, num_test=5, image_size=48, captions=True))
    pictures = [record for record in read_json(f"{tmp_path}/train.json") if "image" in record]
    assert {record["conversations"][-2]["value"] for record in pictures} == {"list everything ."}
    assert all(len(record["conversations"]) == 2 for record in read_json(f"{tmp_path}/test.json"))


def test_the_same_recipe_makes_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_demo(str(tmp_path), DemoRecipe(num_train=60, num_test=10, image_size=48))
    assert content(tmp_path) == content(made)


def test_a_larger_set_begins_with_the_smaller_one(made: Path, tmp_path: Path) -> None:
    make_demo(str(tmp_path), DemoRecipe(num_train=70, num_test=11, image_size=48))
    assert read_json(f"{tmp_path}/train.json")[:60] == read_json(f"{made}/train.json")
    smaller = {name: data for name, data in content(made).items() if name.endswith(".jpg")}
    assert smaller.items() <= content(tmp_path).items()


def test_another_seed_makes_another_set(made: Path, tmp_path: Path) -> None:
    make_demo(str(tmp_path), DemoRecipe(num_train=60, num_test=10, seed=1, image_size=48))
    assert read_json(f"{tmp_path}/test.json") != read_json(f"{made}/test.json")


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_demo(str(tmp_path), DemoRecipe(300, 5, image_size=48), lambda *step: seen.append(step))
    assert seen == [(256, 305), (300, 305), (305, 305)]
    assert {split: len(read_json(f"{tmp_path}/{split}.json")) for split in ("train", "test")} == {
        "train": 300,
        "test": 5,
    }


def test_a_set_is_never_overwritten(made: Path) -> None:
    before = content(made)
    with pytest.raises(DpnError, match="holds a demo set already"):
        make_demo(str(made), DemoRecipe(num_train=5, num_test=5, image_size=48))
    assert content(made) == before


@pytest.mark.parametrize("bad", [{"num_train": 0}, {"num_test": 0}, {"image_size": 50}, {"image_size": 24}])
def test_impossible_sizes_are_refused(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(DpnError, match="allowed: at least 1 record"):
        make_demo(str(tmp_path), DemoRecipe(**{"num_train": 5, "num_test": 5, **bad}))
    assert not list(tmp_path.iterdir())
