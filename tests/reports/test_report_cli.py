"""`dpn report FOLDER`: one JSON document or a table, the user's mistakes as one line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dpn_platform.reports.study.build import build_report
from dpn_platform.reports.study.record import StudyRecord

RunDpn = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(record: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished report's folder."""
    return build_report(record, tmp_path_factory.mktemp("study")).html.parent


def test_report_folder_prints_one_json_document(run_dpn: RunDpn, folder: Path, tmp_path: Path) -> None:
    result = run_dpn("report", str(folder), "--json", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["study"] == "demo-sweep"
    assert document["report"] == str(tmp_path / "report.html")
    assert {point["name"] for point in document["points"] if point["on_front"]} == set(document["front"])
    assert (tmp_path / "front.png").stat().st_size > 0


def test_report_folder_prints_the_table(run_dpn: RunDpn, folder: Path) -> None:
    result = run_dpn("report", str(folder), COLUMNS="100")
    assert result.returncode == 0, result.stderr
    assert "dpn_02" in result.stdout
    assert str(folder / "report.html") in result.stderr


def test_report_of_a_folder_without_a_study_is_one_line(run_dpn: RunDpn, tmp_path: Path) -> None:
    result = run_dpn("report", str(tmp_path))
    assert result.returncode == 2
    assert "study.json" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
