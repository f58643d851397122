"""What `--with` names, and pictures that a file of proposals names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.picture_names import names_pictures, pictures_of_records
from dpn_platform.data.proposing.places import Place, fetched, find_place
from tests.data.proposing.published_set import publish_set


def test_files_folders_and_jitter_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "boxes.jsonl").write_text("{}")
    (tmp_path / "upn.pth").write_text("x")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "rt_detr"}')
    assert find_place("jitter") == Place("jitter")
    assert [find_place(f"{tmp_path}/{name}").kind for name in ("boxes.jsonl", "upn.pth", "model")] == [
        "files",
        "upn",
        "detector",
    ]
    first = find_place(f"{tmp_path}/model")
    os.utime(tmp_path / "model/config.json", (1, 1))
    assert find_place(f"{tmp_path}/model").digest != first.digest
    assert first.uri == f"file://{tmp_path}/model"


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="--with .*gone: nothing is there; wanted a file of proposals"):
        find_place(f"{tmp_path}/gone")
    with pytest.raises(DpnError, match="holds no config.json; wanted a from_pretrained folder of a detector"):
        find_place(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(DpnError, match="--with .* holds a model of type llava; those that propose boxes are d_fine"):
        find_place(str(tmp_path))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DpnError, match="holds a model of type None"):
        find_place(str(tmp_path))


def test_what_lies_here_is_used_where_it_lies(tmp_path: Path) -> None:
    with fetched(f"file://{tmp_path}") as folder:
        assert folder == str(tmp_path)


def test_a_file_that_names_pictures_is_told_by_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "boxes.jsonl"
    for text, wanted in (
        ('\n{"image": "a"}\n', True),
        ('{"id": "a"}\n{"image": "a"}', False),
        ("no", False),
        ("", False),
    ):
        file.write_text(text)
        assert names_pictures(str(file)) == wanted


def test_pictures_of_records_are_read_from_the_annotation_files(tmp_path: Path) -> None:
    manifest = publish_set(tmp_path)
    assert pictures_of_records(manifest) == {f"r{number}": f"img/{number}.png" for number in range(7)}
    file = tmp_path / "raw/train.json"
    records = json.loads(file.read_text())
    file.write_text(json.dumps([*records, {**records[0], "image": "img/1.png"}]))
    with pytest.raises(
        DpnError, match="records of the id r0 show img/0.png and img/1.png .*name records by id instead"
    ):
        pictures_of_records(manifest)
    file.unlink()
    with pytest.raises(DpnError, match="nothing is there .the file names pictures, which shards know by records alone"):
        pictures_of_records(manifest)
