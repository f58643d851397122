"""What every Tracker promises of runs, as processes come and go; also in the background."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking import Tracker
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker
from tests.tracking.conftest import SECRET, Harness


def test_start_run_with_a_known_key_continues_it(harness: Harness) -> None:
    first = harness.tracker.start_run("trial", key="study/1", params={"lr": 0.1}, tags={"state": "new"})
    harness.tracker.end_run(first, "FAILED")
    again = harness.reopen().start_run(
        "trial", key="study/1", params={"lr": 0.1, "steps": 5}, tags={"state": "resumed"}
    )
    assert again == first
    assert harness.run_count() == 1
    seen = harness.see(first)
    assert seen.status == "RUNNING"
    assert seen.params == {"lr": "0.1", "steps": "5"}
    assert (seen.tags["state"], seen.tags["dpn.key"]) == ("resumed", "study/1")


def test_start_run_never_changes_a_logged_parameter(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a", params={"lr": 0.1})
    harness.tracker.start_run("trial", key="a", params={"lr": 0.2})
    assert harness.see(run).params == {"lr": "0.1"}


def test_child_runs_know_their_parent(harness: Harness) -> None:
    parent = harness.tracker.start_run("study", key="study")
    children = [harness.tracker.start_run(f"trial {i}", key=f"study/{i}", parent_id=parent) for i in range(2)]
    assert len({parent, *children}) == 3
    assert [harness.see(child).tags["mlflow.parentRunId"] for child in children] == [parent, parent]


def test_log_metrics_repeated_after_resume_is_kept_once(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    for step in (10, 20, 30):
        harness.tracker.log_metrics(run, {"train/loss": 1 / step, "train/lr": 0.1}, step)
    resumed = harness.reopen()
    assert resumed.start_run("trial", key="a") == run
    for step in (20, 30, 40):
        resumed.log_metrics(run, {"train/loss": 1 / step, "train/lr": 0.1}, step)
    metrics = harness.see(run).metrics
    assert metrics["train/loss"] == [(step, pytest.approx(1 / step)) for step in (10, 20, 30, 40)]
    assert [step for step, _ in metrics["train/lr"]] == [10, 20, 30, 40]


def test_who_adds_to_a_run_without_opening_it_repeats_nothing(harness: Harness) -> None:
    run = harness.tracker.start_run("study", key="study")
    harness.tracker.log_metrics(run, {"front/size": 3.0})
    harness.tracker.end_run(run)
    for _ in range(2):
        harness.reopen().log_metrics(run, {"front/size": 3.0, "front/more": 1.0})
    seen = harness.see(run)
    assert (seen.metrics, seen.status) == ({"front/size": [(0, 3.0)], "front/more": [(0, 1.0)]}, "FINISHED")


def test_a_continued_run_logs_again_what_failed_to_be_sent(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    run = harness.tracker.start_run("trial", key="a")
    harness.tracker.log_metrics(run, {"train/loss": 1.0}, 1)
    resumed = harness.reopen()
    resumed.start_run("trial", key="a")
    sender = resumed._tracker if isinstance(resumed, BackgroundTracker) else resumed
    if isinstance(sender, MlflowTracker):
        send, failures = sender._runs.client.log_batch, iter([True])

        def fails_once(*args: Any, **kwargs: Any) -> None:
            if next(failures, False):
                raise ConnectionError("reset")
            send(*args, **kwargs)

        monkeypatch.setattr(sender._runs.client, "log_batch", fails_once)
    resumed.log_metrics(run, {"train/loss": 1.0}, 1)
    resumed.log_metrics(run, {"train/loss": 0.5}, 2)
    resumed.log_metrics(run, {"train/loss": 0.25}, 3)
    assert harness.see(run).metrics["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.25)]


def test_log_artifact_text_file_and_folder(harness: Harness, tmp_path: Path) -> None:
    run = harness.tracker.start_run("trial", key="a")
    source = tmp_path / "source"
    source.mkdir()
    (source / "local.json").write_text('{"a": 1}')
    harness.tracker.log_artifact(run, "first", "notes/readme.txt")
    harness.tracker.log_artifact(run, "second", "notes/readme.txt")
    harness.tracker.log_artifact(run, source / "local.json", "report/study.json")
    harness.tracker.log_artifact(run, source, "folder")
    assert harness.artifact(run, "notes/readme.txt", tmp_path) == b"second"
    assert json.loads(harness.artifact(run, "report/study.json", tmp_path)) == {"a": 1}
    assert harness.artifact(run, "folder/local.json", tmp_path) == b'{"a": 1}'


def test_log_model_is_registered_once_per_name(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    first = harness.tracker.log_model(run, "step-100", "s3://dpn/runs/a/100", {"step": 100}, {"eval/accuracy": 0.9})
    again = harness.reopen().log_model(run, "step-100", "s3://dpn/runs/a/100", {"step": 100}, {"eval/accuracy": 0.9})
    other = harness.tracker.log_model(run, "step-200", "s3://dpn/runs/a/200", {}, {})
    assert again == first
    assert other != first


def test_no_credential_reaches_a_run(harness: Harness, tmp_path: Path) -> None:
    run = harness.tracker.start_run(
        "trial", key="a", params={"command": f"x --key {SECRET}", "api_key": "abc"}, tags={"note": f"<{SECRET}>"}
    )
    harness.tracker.log_artifact(run, f"secret {SECRET}", "log.txt")
    (tmp_path / "leak.txt").write_text(SECRET)
    with pytest.raises(DpnError, match=r"leak\.txt: not logged"):
        harness.tracker.log_artifact(run, tmp_path / "leak.txt", "leak.txt")
    with pytest.raises(DpnError, match=r"gone\.txt: no such file"):
        harness.tracker.log_artifact(run, tmp_path / "gone.txt", "gone.txt")
    seen = harness.see(run)
    assert seen.params == {"command": "x --key ***", "api_key": "***"}
    assert seen.tags["note"] == "<***>"
    assert harness.artifact(run, "log.txt", tmp_path) == b"secret ***"


def test_long_values_and_odd_keys_are_accepted(harness: Harness) -> None:
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 10_000}
    run = harness.tracker.start_run("trial", key="a", params=params)
    assert len(harness.see(run).params) == 151
    assert len(harness.see(run).params["long"]) == 6000
    harness.tracker.log_metrics(run, {"router/keep_ratio_layer_08": float("nan"), "eval/x": 1.0})


def test_several_runs_from_threads_do_not_mix(harness: Harness) -> None:
    def trial(index: int) -> str:
        run = harness.tracker.start_run(f"trial {index}", key=f"key {index % 4}")
        harness.tracker.log_metrics(run, {"value": float(index % 4)}, step=1)
        return run

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(trial, range(8)))
    assert len(set(runs)) == harness.run_count() == 4
    for index, run in enumerate(runs):
        assert {value for _, value in harness.see(run).metrics["value"]} == {float(index % 4)}


def test_urls_name_the_run(harness: Harness) -> None:
    run = harness.tracker.start_run("trial", key="a")
    assert harness.tracker.run_url(run).startswith(harness.tracker.experiment_url())
    assert run in harness.tracker.run_url(run)


def test_trackers_fulfil_the_protocol(harness: Harness) -> None:
    assert isinstance(harness.tracker, Tracker)
