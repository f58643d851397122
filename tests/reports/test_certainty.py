"""A report says how sure its front is: on the page, in pareto.json, and in a record that older ones lack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpn_platform.reports.study.build import build_report, study_record
from dpn_platform.reports.study.certainty import share_text
from dpn_platform.reports.study.record import StudyRecord, parse_record
from tests.evaluation.outcome_tables import answers, write_point

HARDNESS = np.random.default_rng(5).normal(size=300)


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """Two extensions, and a control with two seeds."""
    made = [("dense", "dense", 0.95, 1.0, 0), ("drop-seed-0", "random_drop", 0.7, 0.5, 0)]
    made += [
        ("drop-seed-1", "random_drop", 0.74, 0.5, 0),
        ("dpn-00", "dpn", 0.9, 0.6, 0),
        ("dpn-01", "dpn", 0.88, 0.3, 1),
    ]
    points = [
        write_point(tmp_path, name, answers(accuracy, HARDNESS, seed), cost, method, extension=extension)
        for seed, (name, method, accuracy, cost, extension) in enumerate(made)
    ]
    return study_record(StudyRecord("night", tuple(points)), {})


def test_the_page_says_how_sure_the_front_is(record: StudyRecord, tmp_path: Path) -> None:
    paths = build_report(record, tmp_path / "report")
    page = paths.html.read_text()
    assert "How sure the front is" in page
    assert "on it in draws" in page
    assert "<td>best under 0.4</td><td>dpn-01</td>" in page
    assert "<td>the beginning</td>" in page
    assert "standard error by seeds" in page
    document = json.loads(paths.json.read_text())
    assert document["statistics"]["history"][1]["extension"] == 1
    shares = {point["name"]: point["front_share"] for point in document["points"]}
    assert shares["dpn-01"] == 1.0
    assert shares["drop"] == 0.0


def test_a_record_keeps_it_and_does_without(record: StudyRecord) -> None:
    document = json.loads(json.dumps(record.to_json(), allow_nan=False))
    assert parse_record(json.dumps(document), "study.json") == record
    del document["statistics"]
    older = parse_record(json.dumps(document), "study.json")
    assert older.statistics is None
    assert [point.name for point in older.points] == [point.name for point in record.points]


def test_what_lies_between_is_never_told_as_none_or_all() -> None:
    shares = (0.0, 0.004, 0.5, 0.996, 1.0, None)
    assert [share_text(share) for share in shares] == ["0%", "<1%", "50%", ">99%", "100%", ""]
