"""`dpn data convert`: one verb for all kinds; its summary, its refusals, and what its help promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.cli.main import run
from dpn_platform.data.convert.kinds import KINDS
from dpn_platform.data.convert.run import CONVERTERS
from tests.data.convert.conftest import instances


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "instances_val2017.json"
    file.write_text(json.dumps(instances()))
    return file


def test_every_kind_of_the_help_can_be_converted(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(KINDS) == list(CONVERTERS)
    assert run(["data", "convert", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(f"{name}: {kind.meaning}" in told for name, kind in KINDS.items())
    assert "Rexverse-2M's card carries no licence" in told


def test_the_summary_is_one_document(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = tmp_path / "raw"
    assert run(["data", "convert", "coco", str(source), str(dest), "--absent", "1", "--seed", "3", "--json"]) == 0

    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["rows"] == {"val": 3}
    assert document["options"] == {"absent": 1, "seed": 3}
    about = json.loads((dest / "about/val.json").read_text())
    assert document.items() >= about.items()


def test_people_are_told_what_was_left_out_and_how_to_go_on(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "convert", "coco", str(source), str(tmp_path / "raw")]) == 0

    printed = capsys.readouterr()
    assert "boxes of no picture of the file" in printed.out
    assert f"next: dpn data ingest {tmp_path}/raw URI --images PICTURES" in printed.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["coco", "--ask", "count"], "--ask count: allowed are detect, describe"),
        (["rexverse", "--boxes", "yxyx"], "--boxes yxyx: allowed are xyxy, xywh"),
        (["refcoco", "--split", "train"], "--split says nothing of refcoco; it is for coco, lvis, rexverse"),
        (["voc"], "there is no kind 'voc' of sources"),
    ],
)
def test_mistakes_are_one_line(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    kind, *options = arguments
    assert run(["data", "convert", kind, str(source), str(tmp_path / "raw"), *options]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dpn: error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert not (tmp_path / "raw").exists()
