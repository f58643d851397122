"""`tracking.backend`: MLflow needs an address, JSON lines a folder, and off needs and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.tracking import TrackingConfig
from dpn_platform.tracking import Tracker, View, open_tracker
from dpn_platform.tracking.jsonl import JsonlTracker
from dpn_platform.tracking.off import OffTracker


def test_open_tracker_without_an_address_says_what_to_do() -> None:
    with pytest.raises(DpnError, match=r"MLFLOW_TRACKING_URI.*dpn up"):
        open_tracker(TrackingConfig(), environment={})


def test_open_tracker_prefers_the_configured_address(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    tracker = open_tracker(TrackingConfig(uri=database), environment={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert tracker.experiment_url().startswith("sqlite:")


def test_off_takes_every_verb_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = open_tracker(TrackingConfig.model_validate({"backend": False}), environment={})  # YAML's `off`
    assert isinstance(tracker, OffTracker)
    assert isinstance(tracker, Tracker)
    run = tracker.start_run("trial", key="study/1", params={"lr": 0.1})
    assert run == tracker.start_run("trial", key="study/1") != tracker.start_run("trial", key="study/2")
    tracker.log_metrics(run, {"x": 1.0}, 3)
    tracker.log_artifact(run, "text", "a.txt")
    models = [tracker.log_model(run, name, "s3://x") for name in ("a", "b", "a")]
    assert models[0] == models[2] != models[1]
    tracker.describe(run, note="text", tags={"a": "b"})
    tracker.log_data(run, [])
    tracker.register_models(run, "study", [])
    tracker.set_alias("study", "best", "a")
    assert tracker.show(View("v", "v", ("a", "b"), ("x",))) == ""
    tracker.end_run(run)
    assert (tracker.run_url(run), tracker.experiment_url()) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_jsonl_lies_in_its_folder_or_in_the_storage_of_the_runs(tmp_path: Path) -> None:
    config = TrackingConfig(backend="jsonl", experiment="mine")
    tracker = open_tracker(config, str(tmp_path / "runs"), environment={})
    run = tracker.start_run("trial", key="a")
    tracker.log_metrics(run, {"x": 1.0}, 3)
    tracker.log_metrics(run, {"x": 0.5, "y": 2.0}, 4)
    tracker.end_run(run)
    folder = tmp_path / "runs" / "tracking" / "mine" / "a"
    assert folder.joinpath("metrics.jsonl").read_text() == '{"step": 3, "x": 1.0}\n{"step": 4, "x": 0.5, "y": 2.0}\n'
    assert json.loads(folder.joinpath("run.json").read_text())["status"] == "FINISHED"
    with pytest.raises(DpnError, match=r"tracking\.uri.*jsonl needs a folder"):
        open_tracker(config, environment={})


def test_jsonl_artifacts_stay_below_the_run(tmp_path: Path) -> None:
    tracker = JsonlTracker("mine", str(tmp_path))
    with pytest.raises(DpnError, match=r"below the run's folder"):
        tracker.log_artifact(tracker.start_run("trial", key="a"), "text", "../../b.txt")
