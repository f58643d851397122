"""build_report: every file, strict JSON, self-contained page, same bytes twice, odd studies."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import flops_ratio, front_points
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.study.build import ReportPaths, build_report
from dpn_platform.reports.study.note import NOTE_LENGTH, study_note
from dpn_platform.reports.study.publish import publish_report
from dpn_platform.reports.study.record import StudyRecord, parse_record
from dpn_platform.reports.study.source import read_study
from dpn_platform.reports.study.summary import headline
from dpn_platform.reports.study.table import front_table
from dpn_platform.tracking import MemoryTracker
from tests.reports.conftest import make_point


@pytest.fixture(scope="module")
def paths(record: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return build_report(record, tmp_path_factory.mktemp("report"))


def page_without_plotly(html: str) -> str:
    """The page's own text: plotly.js, the figure and pictures taken out."""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", re.sub(r"<script.*?</script>", "", html, flags=re.S))


def test_report_json_has_the_promised_fields(paths: ReportPaths) -> None:
    document = json.loads(paths.json.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert {"study", "mlflow_uri", "report", "points", "hypervolume"} <= set(document)
    assert document["report"] == str(paths.html)
    for point in document["points"]:
        promised = {"name", "method", "params", "accuracy", "accuracy_ci", "flops_ratio_eq8", "flops_ratio_swiglu"}
        assert promised | {"visual_tokens_mean", "on_front"} <= set(point)
    front = [point["name"] for point in document["points"] if point["on_front"]]
    assert sorted(front) == sorted(document["front"])
    assert len(front) >= 3
    assert document["family_losses"]["families"][0]["family"] == "reading"


def test_report_csv_has_one_row_per_point(paths: ReportPaths, record: StudyRecord) -> None:
    rows = list(csv.DictReader(paths.csv.open()))
    assert [row["name"] for row in rows] == [point.name for point in record.points]
    assert float(rows[0]["accuracy_reading"]) == record.points[0].per_family["reading"].accuracy
    assert json.loads(rows[4]["params"])["experts"] == ["1x1", "1x2", "2x2"]


def test_report_page_is_self_contained(paths: ReportPaths) -> None:
    html = paths.html.read_text()
    assert not re.search(r"<(?:script|img|iframe)[^>]+src=[\"'](?!data:)", html)
    assert "<link" not in html
    assert "plotly.js v" in html
    assert '"showSendToCloud": false' in html
    own = page_without_plotly(html)
    assert set(re.findall(r"https?://[^\"'<\s]+", own)) == {"http://127.0.0.1:5000/#/experiments/1/runs/0a1b"}


def test_report_page_says_what_a_reader_needs(paths: ReportPaths, record: StudyRecord) -> None:
    text = page_without_plotly(paths.html.read_text())
    for point in record.points:
        assert point.name in text
    for said in ("not measurably worse", "inside interval", "2x2 → 1x1 → 1x2", "hypervolume", "0c9a1f6e2b7d", "eq8"):
        assert said in text
    assert "reading loses" in text


def test_report_pictures_are_pictures(paths: ReportPaths) -> None:
    with Image.open(paths.png) as front:
        assert front.size == (1600, 928)
    assert paths.gallery_png is not None
    with Image.open(paths.gallery_png) as gallery:
        assert gallery.width > 1000


def test_report_same_record_same_bytes(paths: ReportPaths, record: StudyRecord) -> None:
    before = {path: path.read_bytes() for path in paths.all()}
    again = build_report(record, paths.html.parent)
    assert {path: path.read_bytes() for path in again.all()} == before


def test_report_can_be_redrawn_from_its_folder(paths: ReportPaths, record: StudyRecord, tmp_path: Path) -> None:
    redrawn = build_report(read_study(str(paths.html.parent)), tmp_path)
    assert redrawn.csv.read_bytes() == paths.csv.read_bytes()
    assert redrawn.png.read_bytes() == paths.png.read_bytes()


def test_report_escapes_what_it_is_given(record: StudyRecord, tmp_path: Path) -> None:
    sly = record.points[5].model_copy(update={"name": "<script>alert(1)</script>", "params": {"[red]x": "</td>"}})
    paths = build_report(replace(record, points=(*record.points, sly), mlflow_uri="javascript:alert(1)"), tmp_path)
    html = paths.html.read_text()
    assert "<script>alert" not in html
    assert "javascript:" not in page_without_plotly(html)


def failed_point() -> Point:
    nothing = {"accuracy": None, "flops_ratio_eq8": None, "flops_ratio_swiglu": None, "visual_tokens_mean": None}
    return Point.from_json({"name": "lost", "method": "dpn", "accuracy_ci": None, **nothing})


@pytest.mark.parametrize("kept", [[], [0], [2], [0, 5], [-1]])
def test_report_of_small_studies(record: StudyRecord, tmp_path: Path, kept: list[int]) -> None:
    points = [*record.points, failed_point()]
    small = replace(record, points=tuple(points[index] for index in kept), examples=(), meta={}, mlflow_uri="")
    paths = build_report(small, tmp_path)
    assert paths.gallery_png is None
    assert all(path.stat().st_size > 0 for path in paths.all())
    Console(file=io.StringIO()).print(front_table(small))


def test_report_keeps_failed_points_off_the_front(record: StudyRecord, tmp_path: Path) -> None:
    document = json.loads(
        build_report(replace(record, points=(*record.points, failed_point())), tmp_path).json.read_text()
    )
    lost = document["points"][-1]
    assert lost["name"] == "lost"
    assert lost["on_front"] is False
    assert lost["accuracy"] is None
    assert math.isfinite(document["hypervolume"])


def test_report_refuses_repeated_names(record: StudyRecord, tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="more than one point is named 'dense'"):
        build_report(replace(record, points=(*record.points, record.points[0])), tmp_path)


def test_parse_record_explains_what_is_wrong(record: StudyRecord) -> None:
    with pytest.raises(DpnError, match="x.json: not JSON"):
        parse_record("{", "x.json")
    with pytest.raises(DpnError, match="'points' is missing"):
        parse_record('{"study": "a"}', "x.json")
    with pytest.raises(DpnError, match="schema_version 9"):
        parse_record(json.dumps(record.to_json() | {"schema_version": 9}), "x.json")
    document = record.to_json()
    document["points"][0]["accuracy"] = "much"
    with pytest.raises(DpnError, match="accuracy"):
        parse_record(json.dumps(document), "x.json")


def test_table_marks_front_and_unresolved_differences(record: StudyRecord) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(front_table(record))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"● +dpn_00 .*−1\.2~", text)
    assert not re.search(r"● +random_drop", text)
    assert "hypervolume 0.5196" in text


def test_publish_report_twice_leaves_one_of_everything(paths: ReportPaths, record: StudyRecord, tmp_path: Path) -> None:
    tracker = MemoryTracker()
    parent = tracker.start_run("study", key="study")
    child = tracker.start_run("dpn_02", key="study/dpn_02", parent_id=parent)
    table = tmp_path / "runs" / "dpn_02" / "outcomes.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"table")
    made = {"run_id": child, "checkpoint_uri": "s3://dpn/runs/dpn_02/export", "outcomes_uri": str(table)}
    points = tuple(point.model_copy(update=made) if point.name == "dpn_02" else point for point in record.points)
    for _ in range(2):
        publish_report(replace(record, points=points), paths, tracker, parent)
    run = tracker.runs[parent]
    names = {"report.html", "front.png", "pareto.json", "pareto.csv", "gallery.png", "study.json"}
    assert set(run.artifacts) == {
        *(f"report/{name}" for name in names),
        "report/front-small.png", "outcomes/outcomes.json", "outcomes/dpn_02.parquet"
    }  # fmt: skip
    assert run.artifacts["outcomes/dpn_02.parquet"] == b"table"
    assert run.metrics["front/hypervolume"] == {0: pytest.approx(0.5196, abs=1e-4)}
    front = front_points(record.points)
    assert run.metrics["front/size"] == {0: len(front)}
    within = [point.accuracy for point in record.points if flops_ratio(point) <= 0.5]
    assert run.metrics["front/accuracy_at_0.50"] == {0: max(within)}
    registered = tracker.registered[record.name]
    assert list(registered.versions) == ["dpn_02"]  # of the front, what has a checkpoint
    assert registered.versions["dpn_02"].tags["dpn.uri"] == "s3://dpn/runs/dpn_02/export"
    assert run.outputs == [registered.versions["dpn_02"].model_id]
    assert set(registered.aliases.values()) <= {"dpn_02"}


def test_a_larger_table_of_outcomes_stays_where_it_is(
    paths: ReportPaths, record: StudyRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpn_platform.reports.study.publish.MOST_BYTES", 4)
    tracker = MemoryTracker()
    parent = tracker.start_run("study", key="study")
    (tmp_path / "outcomes.parquet").write_bytes(b"table")
    points = tuple(
        point.model_copy(update={"outcomes_uri": str(tmp_path / "outcomes.parquet")}) for point in record.points
    )
    publish_report(replace(record, points=points), paths, tracker, parent)
    artifacts = tracker.runs[parent].artifacts
    assert [name for name in artifacts if name.startswith("outcomes/")] == ["outcomes/outcomes.json"]
    listed = json.loads(artifacts["outcomes/outcomes.json"])
    assert {(one["bytes"], one["is_here"]) for one in listed} == {(5, False)}


def test_the_description_names_the_front_and_stays_below_the_limit_of_a_tag(record: StudyRecord) -> None:
    note = study_note(record, "report/front.png", "report/report.html", "")
    front = front_points(record.points)
    assert note.startswith(f"**{headline(record)}**")
    assert all(f"| {point.name}" in note for point in front)
    assert "![The front](report/front.png)" in note
    many = tuple(
        make_point(f"point-{place:03d}", "dpn", 0.2 + place / 400, params={}).model_copy(
            update={"accuracy": 0.5 + place / 400}
        )
        for place in range(150)
    )
    cut = study_note(replace(record, points=many), "report/front.png", "report/report.html", "")
    assert len(cut) <= NOTE_LENGTH
    assert "| point-000" in cut
    assert "| point-149" in cut
    assert "of the 150 points of the front" in cut
    told = study_note(
        replace(record, meta={"command": "/opt/bin/dpn sweep a.yaml --name x y=1 --resume"}), "p", "r", ""
    )
    assert f"dpn sweep a.yaml y=1 --name {record.name} --resume" in told
    assert "/opt" not in told
