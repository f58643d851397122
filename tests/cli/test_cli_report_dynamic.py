"""`dpn report dynamic`: one document or tables, three files, one line for what cannot be proved."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.cli import main
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.study.build import build_report
from dpn_platform.reports.study.record import StudyRecord
from tests.reports.dynamic_tables import CHEAP, COSTS, halves, knows_the_family, scores_of, table_of

FAMILIES = halves(200)


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """One router that knows the family, one that is constant, a pyramid that cannot choose."""
    monkeypatch.chdir(tmp_path)

    def put(name, choose, keep=lambda row: True, **more):
        rows = table_of(FAMILIES, choose, scores_of(FAMILIES), **more)
        (tmp_path / name).mkdir()
        (tmp_path / name / "outcomes.parquet").write_bytes(encode_table(row for row in rows if keep(row)))

    put("knows", knows_the_family, budgets={0.7: knows_the_family}, settings='{"sandwich": {"drawn": 1}}')
    put("constant", lambda place, family: CHEAP, checkpoint="c")
    put("pyramid", lambda place, family: "1x2,1x2", lambda row: not row["variant"], method="static", checkpoint="s")
    return tmp_path


def document_of(capsys, *arguments):
    assert main.run(["report", "dynamic", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main.run(["report", "dynamic", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_document_and_files(capsys, evaluations):
    document = document_of(capsys, "knows", "constant/outcomes.parquet", "pyramid")
    verdicts = {one["point"]: one["is_dynamic"] for one in document["proofs"]}
    assert verdicts == {"knows": True, "knows at budget 0.7": True, "constant": False}
    assert document["proofs"][0]["gains"][1]["against"] == "trained pyramids"
    html, data, png = map(Path, document.pop("files"))
    assert json.loads(data.read_text()) == document
    page = html.read_text()
    assert not any(address in page for address in ("http://", "https://"))
    for part in ("Against what a coin does", "How many questions it takes", "What there is to gain", "Routes"):
        assert part in page
    with Image.open(png) as figure:
        assert figure.width == 1950, "two panels"


def test_the_word_is_not_said_of_what_is_not_shown(capsys, evaluations):
    assert main.run(["report", "dynamic", "constant", "--out", "r"]) == 0
    printed = capsys.readouterr().out
    assert "not shown to be dynamic: every picture takes 2x2,2x2" in printed.replace("\n", " ")
    for text in (printed, (evaluations / "r/dynamic.html").read_text()):
        assert "dynamic" not in text.replace("not shown to be dynamic", "")


def test_files_of_others_stay(capsys, evaluations):
    assert main.run(["report", "dynamic", "constant", "--out", "r"]) == 0
    (evaluations / "r/dynamic.json").write_text("mine")
    capsys.readouterr()
    assert "--force" in refused(capsys, "constant", "--out", "r")
    assert main.run(["report", "dynamic", "constant", "--out", "r", "--force"]) == 0


def test_mix_ups_are_one_line(capsys, evaluations):
    assert "pyramid: no outcomes per route; make them: dpn evaluate CHECKPOINT --routes all" in refused(
        capsys, "pyramid"
    )
    (evaluations / "empty").mkdir()
    assert "empty: no outcomes there; make them" in refused(capsys, "empty")
    assert "gone.parquet" in refused(capsys, "gone.parquet")
    assert "--flops gflops is unknown; allowed are swiglu, eq8, executed" in refused(
        capsys, "knows", "--flops", "gflops"
    )
    rows = table_of(FAMILIES[:100], knows_the_family, scores_of(FAMILIES[:100]), method="static", checkpoint="s")
    (evaluations / "pyramid/outcomes.parquet").write_bytes(encode_table(row for row in rows if not row["variant"]))
    (evaluations / "part").mkdir()
    fixed = [row | {"route": CHEAP} for row in rows if not row["variant"]]
    (evaluations / "part/outcomes.parquet").write_bytes(encode_table(fixed))
    assert "part: answers other questions than the method's own outcomes" in refused(capsys, "knows", "part")


def test_a_study_by_its_folder(capsys, evaluations):
    points = [
        Point(
            name=name,
            method="dpn",
            accuracy=0.9,
            accuracy_ci=(0.8, 1.0),
            flops_ratio={"swiglu": 0.7},
            visual_tokens_mean=40.0,
            outcomes_uri=str(evaluations / folder / "outcomes.parquet"),
        )
        for name, folder in (("dpn-00", "knows"), ("dpn-01", "constant"))
    ]
    build_report(StudyRecord("study", tuple(points)), "study")
    document = document_of(capsys, "study", "--out", "r")
    assert [one["name"] for one in document["proofs"]] == ["dpn-00", "dpn-00", "dpn-01"]
    assert document["summary"].startswith("dynamic: 1 of 2 checkpoints, 1 of 1 dial point; not shown")
    assert len(document["proofs"][0]["routes"]) == len(COSTS)
    bare = [one.model_copy(update={"outcomes_uri": None}) for one in points]
    build_report(StudyRecord("bare", tuple(bare)), "bare")
    assert "bare: no outcomes per route; make them" in refused(capsys, "bare")
