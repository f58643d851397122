"""`dpn study`: one document or tables, one line for what cannot be done, and nobody's files overwritten."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace

import pytest

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.cli import main
from dpn_platform.storage import read_json, write_bytes, write_json
from dpn_platform.sweeps.lease import Holder
from tests.reports.dynamic_tables import CHEAP, DEAR, halves, knows_the_family, scores_of, table_of
from tests.sweeps.written_studies import OPEN, small_trials, write_study


def test_list(study, document, monkeypatch):
    rows = {row["name"]: row for row in document("list")["studies"]}
    assert {name: (row["state"], row["trials"]) for name, row in rows.items()} == {
        "alpha": ("finished", 5),
        "beta": ("interrupted", 7),
    }
    assert "best" not in rows["alpha"]
    long = {row["name"]: row for row in document("list", "--long", "--match", "b*")["studies"]}
    assert list(long) == ["beta"]
    assert (long["beta"]["finished"], long["beta"]["failed"], long["beta"]["open"], long["beta"]["on_front"]) == (
        5,
        1,
        1,
        5,
    )
    assert long["beta"]["best"]["name"] == "dense"
    assert [row["name"] for row in document("list", "--state", "finished")["studies"]] == ["alpha"]
    monkeypatch.setenv("COLUMNS", "140")
    printed = study("list", "--long").out
    for cell in ("alpha", "finished", "0:00:12", "best %"):
        assert cell in printed
    assert "--all shows archived ones too" in study("list", "--match", "zzz").err
    assert "there are no studies in" in study("list", runs_uri="nowhere").err


def test_list_goes_on_behind_a_damaged_study(study, runs):
    write_bytes(f"{runs}/studies/broken.json", b"{")
    printed = study("list")
    assert "damaged" in printed.out
    assert "alpha" in printed.out
    assert f"damaged: {runs}/studies/broken.json: not valid JSON" in printed.err


def test_failed_and_damaged_trials_are_told(study, document, runs, monkeypatch):
    """By the list as it is asked for most, which reads no points."""
    monkeypatch.setenv("COLUMNS", "140")
    write_study(runs, "gamma", small_trials(), unfinished=OPEN[:1]).finish_but_for(1)
    write_bytes(f"{runs}/studies/gamma/trials/dpn-01.json", b'{"key": ')
    (row,) = document("list", "--match", "gamma", "--state", "finished")["studies"]
    assert [row[name] for name in ("state", "trials", "finished", "failed", "open", "damaged")] == [
        "finished", 6, 4, 1, 0, 1,
    ]  # fmt: skip
    printed = study("list", "--match", "gamma")
    assert "finished, 1 failed, 1 damaged" in " ".join(printed.out.replace("│", " ").split())
    assert "damaged: " in printed.err
    found = document("show", "gamma")
    assert (found["state"], found["num_failed"], found["trials"]["damaged"]) == ("finished", 1, 1)
    assert [(one["key"], one["state"]) for one in found["unsettled"]] == [("dpn-08", "failed"), ("dpn-01", "damaged")]
    printed = " ".join(study("show", "gamma").out.replace("│", " ").split())
    assert "state finished, 1 failed, 1 damaged" in printed
    assert "trials 4 finished, 1 failed, 1 damaged" in printed
    assert "dpn-01 damaged" in printed


def test_show_says_what_is_a_range_and_what_are_values(study, runs):
    search = {
        "methods": {"dpn": {"routing_loss_target": [1, 2]}, "static": {"kernel": ["1x2", "2x2"]}},
        "train.steps": [120, 240],
        "train.lr": {"low": 1e-4, "high": 1e-3, "log": True},
        "train.warmup_ratio": {"low": 0.0, "high": 0.1, "step": 0.05},
    }
    write_study(runs, "gamma", config={"sweep": {"search": search}})
    printed = " ".join(study("show", "gamma").out.replace("│", " ").split())
    for told in (
        "method searched dpn, static", "dpn.routing_loss_target 1 to 2", "static.kernel 1x2, 2x2",
        "train.steps 120, 240", "train.lr 0.0001 to 0.001, log", "train.warmup_ratio 0 to 0.1, step 0.05",
    ):  # fmt: skip
        assert told in printed


def test_show(study, document):
    found = document("show", "beta", "--budget", "0.7", "--budget", "0.1")
    assert (found["state"], found["trials"]["finished"], found["trials"]["failed"]) == ("interrupted", 5, 1)
    assert [point["name"] for point in found["points"] if point["on_front"]] == [
        "dense", "static_2x2", "dpn-00", "dpn-01", "dpn-02",
    ]  # fmt: skip
    assert found["picks"]["within"][0]["point"]["name"] == "dpn-01"
    assert found["picks"]["within"][1] == {"budget": 0.1, "point": None}
    assert found["unsettled"][0] == {"key": "dpn-08", "state": "failed", "reason": "out of [memory]"}
    printed = study("show", "beta", "--budget", "0.7").out
    for part in (
        "interrupted", "routing_loss_weight", "0.01 to 1", "Pareto front of beta", "◆", "■", "FLOPs ratio (swiglu)",
        "knee: ", "best at no more than 0.7: dpn-01, ", "cheapest as good as dense: ", "out of [memory]", "hypervolume",
    ):  # fmt: skip
        assert part in printed
    assert "\x1b" not in printed


def test_show_says_who_runs_it(study, runs):
    holder = replace(Holder.this_process(), host="node-7", pid=4711)
    write_json(f"{runs}/studies/beta/lease/000000.json", asdict(holder))
    assert "process 4711 on node-7, last sign of life " in study("show", "beta").out


def test_show_of_what_has_just_begun_and_of_damage(study, runs):
    write_study(runs, "new", unfinished=OPEN)
    assert "no trial has finished yet" in study("show", "new").out
    write_bytes(f"{runs}/studies/alpha/trials/x.json", b"{")
    printed = study("show", "alpha")
    assert f"damaged: {runs}/studies/alpha/trials/x.json: not valid JSON" in printed.err
    assert "dpn-02" in printed.out


@pytest.mark.parametrize("width", ["60", "80", "120"])
def test_the_drawing_fits_the_terminal(study, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    lines = study("show", "alpha").out.splitlines()
    start = lines.index("accuracy (%)")
    end = next(number for number, line in enumerate(lines) if line.endswith("FLOPs ratio (swiglu)"))
    assert max(map(len, lines[start : end + 1])) <= int(width)


def test_diff(study, document):
    found = document("diff", "alpha", "beta")
    assert found["settings"] == ["train.steps: 4 -> 8"]
    assert (found["only_in_first"], found["only_in_second"]) == ([], ["dpn-08", "dpn-09"])
    assert {move["names"][0]: move["resolved"] for move in found["points"]} == {
        "dense": False, "static_2x2": False, "dpn-00": True, "dpn-01": True, "dpn-02": True,
    }  # fmt: skip
    assert found["fronts"]["resolved"]
    printed = " ".join(study("diff", "alpha", "beta").out.split())
    assert found["conclusion"][0] in printed
    assert "trials only in beta: dpn-08, dpn-09" in printed


def test_clone(study, document, tmp_path):
    made = document("clone", "alpha", "train.steps=9")
    assert made == {
        "study": "alpha", "file": "try-2.yaml", "name": "try-2",
        "changes": ['name: "try" -> "try-2"', "train.steps: 4 -> 9"],
    }  # fmt: skip
    assert main.run(["plan", "try-2.yaml", "--help"]) == 0
    assert "train.steps: 4 -> 9" in (tmp_path / "try-2.yaml").read_text()
    study("clone", "alpha", "train.steps=9")  # the same again is no harm


def test_what_was_not_measured_is_null(document, runs):
    """A point without interval, one without accuracy: documents stay strict JSON."""
    for key, changes in {"dpn-01": {"accuracy_ci": [None, None]}, "dpn-02": {"accuracy": None}}.items():
        trial = read_json(f"{runs}/studies/alpha/trials/{key}.json")
        write_json(f"{runs}/studies/alpha/trials/{key}.json", {**trial, "point": {**trial["point"], **changes}})
    (row,) = document("list", "--long", "--match", "alpha")["studies"]
    assert (row["points"], row["on_front"]) == (5, 4)
    found = document("show", "alpha", "--budget", "0.7")
    assert found["picks"]["within"][0]["point"]["ci"] == [None, None]
    moves = {move["names"][0]: move for move in document("diff", "alpha", "beta")["points"]}
    assert moves["dpn-01"]["paired"], "its outcomes are there all the same"
    assert "dpn-02" not in moves


def test_archive(study, document, refused, runs):
    assert "there is no study 'alph'" in refused("archive", "alph"), "what changes a study takes its whole name"
    assert "archived" in study("archive", "alpha").out
    assert [row["name"] for row in document("list")["studies"]] == ["beta"]
    assert [row["name"] for row in document("list", "--state", "archived")["studies"]] == ["alpha"]
    assert {row["name"] for row in document("list", "--all")["studies"]} == {"alpha", "beta"}
    assert document("archive", "alpha", "--undo")["archived"] is None
    assert {row["name"] for row in document("list")["studies"]} == {"alpha", "beta"}
    write_json(f"{runs}/studies/beta/lease/000000.json", asdict(replace(Holder.this_process(), host="node-7")))
    assert "is being run by process" in refused("archive", "beta")


def test_reports_of_an_imported_study(study, document, capsys, runs, tmp_path):
    """Of a study whose routes were measured, after the first store is gone."""
    families = halves(200)
    rows = table_of(families, knows_the_family, scores_of(families))
    write_bytes(f"{runs}/alpha-dpn-00/evaluation/outcomes.parquet", encode_table(rows))
    trial = read_json(f"{runs}/studies/alpha/trials/dpn-00.json")
    trial["point"]["routes"] = {"all": {CHEAP: 100, DEAR: 100}}
    write_json(f"{runs}/studies/alpha/trials/dpn-00.json", trial)
    assert document("export", "alpha", "a.zip")["num_files"] == 26
    there = f"file://{tmp_path}/there"
    assert "26 files, digests verified" in study("import", "a.zip", "--name", "moved", runs_uri=there).out
    shutil.rmtree(tmp_path / "runs")
    place = f"{there}/studies/moved"
    assert main.run(["report", "dynamic", place, "--json"]) == 0
    (proof,) = json.loads(capsys.readouterr().out)["proofs"]
    assert proof["is_dynamic"]
    assert main.run(["report", place, "--out", "r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"] == "moved"
    assert "dpn-02" in study("show", place).out
    write_study(there, "other", small_trials(gain=0.15))
    assert "paired" in study("diff", "moved", "other", runs_uri=there).out


def test_export_and_import_keep_what_is_there(study, refused, tmp_path):
    study("export", "alpha", "a.tar.gz")
    assert "add --force" in refused("export", "alpha", "a.tar.gz")
    study("export", "alpha", "a.tar.gz", "--force")
    assert "exists already" in refused("import", "a.tar.gz")
    captured = study("import", "a.tar.gz", "--name", "again")
    assert "not here: 2 checkpoints more" in captured.err
    (tmp_path / "a.tar.gz").write_bytes(b"damaged")
    assert "cannot be read as an archive" in refused("import", "a.tar.gz", "--name", "more")


@pytest.mark.parametrize("verb", [["show"], ["archive"], ["clone"], ["export"], ["diff", "alpha"]])
def test_unknown_studies_are_one_line(refused, runs, tmp_path, verb):
    more = ["x.zip"] if verb == ["export"] else []
    assert "did you mean 'alpha'?" in refused(*verb, "alpah", *more)
    assert "there are no studies in" in refused(
        *verb[:1], "alpha", *verb[1:], *more, runs_uri=f"file://{tmp_path}/none"
    )
    write_study(runs, "alpine")
    if verb != ["archive"]:
        assert "'alp' is the beginning of 2 studies: alpha, alpine" in refused(*verb, "alp", *more)


def test_other_mix_ups_are_one_line(refused, study, tmp_path):
    assert "--state done is unknown; allowed are running, interrupted" in refused("list", "--state", "done")
    assert "is one study" in refused("diff", "alpha", "alpha")
    assert "did you mean 'train.steps'" in refused("clone", "alpha", "train.step=3")
    (tmp_path / "mine.yaml").write_text("mine")
    assert "add --force" in refused("clone", "alpha", "--out", "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    study("clone", "alpha", "--out", "mine.yaml", "--force")


def test_a_store_that_is_away_is_one_line(refused, monkeypatch):
    monkeypatch.setattr("dpn_platform.storage.uri.MAX_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    for verb in (["list"], ["show", "alpha"]):
        assert "nobody answers at that address" in refused(*verb, runs_uri="s3://dpn/runs")
