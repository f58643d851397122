"""docs/objects.md: its record is one that ingest takes, and its example runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dpn_platform.cli.main import run
from dpn_platform.data.convert.kinds import KINDS
from dpn_platform.data.ingest.policy import KINDS as DEFECTS
from dpn_platform.data.ingest.sources import folder_source, iter_records


@pytest.fixture
def page(repo_root: Path) -> str:
    return (repo_root / "docs/objects.md").read_text()


def block(page: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_record_is_one_that_ingest_takes(
    page: str, refused_by_ingest: Callable[..., list[str]], tmp_path: Path
) -> None:
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")

    assert refused_by_ingest([json.loads(block(page, "json"))], tmp_path) == []


def test_the_example_runs(
    page: str,
    refused_by_ingest: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block(page, "python"), {})
    commands = [shlex.split(line) for line in page.splitlines() if line.startswith("dpn data convert coco shapes/")]
    assert [run(command[1:]) for command in commands] == [0]

    (split, uri), *others = folder_source("raw").annotations
    records = [json.loads(raw) for raw in iter_records(uri)]
    assert (split, others, len(records)) == ("train", [], 4)
    assert refused_by_ingest(records, tmp_path / "shapes/pictures") == []


def test_every_kind_and_every_refusal_is_told(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert set(KINDS) <= set(rows)
    assert {kind for kind in DEFECTS if "box" in kind or "object" in kind} - {"not_an_object"} <= set(rows)
    told = re.findall(r"--(\w+)", page)
    assert {option for kind in KINDS.values() for option in kind.options} <= set(told)
