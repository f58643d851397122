"""`extends`: a recipe over another one, merged by sections, refused in one line when the chain is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import load_config
from dpn_platform.config.recipe_file import read_recipe


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_sections_are_merged_and_everything_else_replaced(write: Any) -> None:
    write("base.yaml", "name: base\ntrain: {steps: 10, lr: 0.1, betas: [0.9, 0.99]}\nmethod: {name: dpn}\n")
    write("middle.yaml", "extends: base.yaml\nname: middle\ntrain: {lr: 0.2, betas: [0.8, 0.9]}\n")
    top = write("top.yaml", "extends: middle.yaml\nname: top\nmethod: {name: dense}\ntrain: {lora: {rank: 4}}\n")
    assert read_recipe(top) == {
        "name": "top",
        "train": {"steps": 10, "lr": 0.2, "betas": [0.8, 0.9], "lora": {"rank": 4}},
        "method": {"name": "dense"},
    }
    assert load_config(top, ["train.steps=3"]).train.steps == 3


def test_a_section_can_be_taken_away(write: Any) -> None:
    write("base.yaml", "name: base\ntrain: {lora: {rank: 4}}\n")
    assert load_config(write("top.yaml", "extends: base.yaml\ntrain: {lora: }\n")).train.lora is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: gone.yaml\n", "extends gone.yaml: no such file"),
        ("extends: ../base.yaml\n", "'../base.yaml' is not the name of a recipe in the same folder"),
        ("extends: [base.yaml]\n", "is not the name of a recipe in the same folder"),
        ("extends: top.yaml\n", "extends: top.yaml leads round in a circle"),
        ("extends: loop.yaml\n", "extends: loop.yaml leads round in a circle"),
        ("extends: list.yaml\n", "extends list.yaml: holds a list; write `key: value` lines"),
    ],
)
def test_a_broken_chain_is_one_line(write: Any, text: str, said: str) -> None:
    write("loop.yaml", "extends: loop.yaml\n")
    write("list.yaml", "- name\n")
    with pytest.raises(ConfigError) as refusal:
        load_config(write("top.yaml", text))
    assert said in str(refusal.value)
    assert str(refusal.value).count("\n") == 0
