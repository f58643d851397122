"""The recipe of a demo set: what its folder and its manifest are named by, and when the set is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import DataConfig
from dpn_platform.demo import prepare
from dpn_platform.demo.recipe import DEMO_URI, DemoRecipe
from dpn_platform.storage import read_json, write_json

RECIPE = DemoRecipe(4, 2, image_size=48)


def test_recipes_that_differ_have_folders_that_differ() -> None:
    changes: list[dict[str, Any]] = [{}, {"num_train": 5}, {"num_test": 3}, {"seed": 1}, {"image_size": 96}]
    assert len({replace(RECIPE, **change).folder for change in [*changes, {"captions": True}]}) == 6


def test_the_recipe_of_sets_that_exist_is_still_theirs() -> None:
    assert DemoRecipe().folder == "v2-6000-1000-96px-seed0"
    fields = {"num_train": 6000, "num_test": 1000, "seed": 0, "image_size": 96, "captions": False}
    assert DemoRecipe().to_json() == {"kind": "demo", "version": 2, **fields}
    assert DataConfig().uri == DEMO_URI


def test_the_set_is_drawn_once_and_ingested_with_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(prepare, "ingest", lambda *places, **options: calls.append((*places, options)))
    for _ in range(2):
        prepare.ensure_demo(RECIPE, uri=f"{tmp_path}/set", raw_uri=f"{tmp_path}/raw")
    raw = f"{tmp_path}/raw/{RECIPE.folder}"

    assert [len(read_json(f"{raw}/{split}.json")) for split in ("train", "test")] == [4, 2]
    assert [(call[0].removeprefix("file://"), call[1]) for call in calls] == [(raw, f"{tmp_path}/set")] * 2
    assert calls[0][2]["recipe"] == RECIPE.to_json()
    assert calls[0][2]["options"].visual_tokens == 16


def test_a_set_of_another_recipe_is_not_replaced(tmp_path: Path) -> None:
    write_json(f"{tmp_path}/set/manifest.json", {"schema_version": 1, "recipe": {"kind": "other"}})
    with pytest.raises(DpnError, match="holds another data set"):
        prepare.ensure_demo(RECIPE, uri=f"{tmp_path}/set", raw_uri=f"{tmp_path}/raw")
