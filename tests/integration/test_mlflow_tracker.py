"""The tracker against a real MLflow server with its artifacts in S3: outage, resume, models, report and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow import MlflowClient

from dpn_platform import services as embedded
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import TrackingConfig
from dpn_platform.evaluation.points import POINT_ARTIFACT, FamilyScore, Point
from dpn_platform.reports.build import build_report
from dpn_platform.reports.publish import publish_report
from dpn_platform.reports.record import StudyRecord
from dpn_platform.reports.source import study_from_mlflow
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.processes import ProcessRecord, stop
from dpn_platform.tracking import mlflow_tracker, open_tracker
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker

pytestmark = pytest.mark.services


def home() -> Path:
    """The state folder of the session's services."""
    return Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent


def kill_mlflow() -> None:
    """Ends the real server and what came from it, as a crash of its node would."""
    record = ProcessRecord.load(record_path(Home(home()), "mlflow"))
    assert record is not None
    stop({record: 0.0})


def make_point(name: str, method: str, accuracy: float, ratio: float, run_id: str) -> Point:
    ci = (accuracy - 0.02, accuracy + 0.02)
    return Point(
        name=name,
        method=method,
        is_control=method != "dpn",
        accuracy=accuracy,
        accuracy_ci=ci,
        per_family={"reading": FamilyScore(n=100, accuracy=accuracy, ci=ci)},
        flops_ratio_eq8=ratio,
        flops_ratio_swiglu=ratio,
        visual_tokens_mean=64 * ratio,
        n=100,
        run_id=run_id,
    )


@pytest.mark.usefixtures("services_alone")
def test_a_killed_server_neither_stops_the_work_nor_loses_or_doubles_anything(
    services: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written to all along while the server is killed and started again, in the background as `dpn train` does."""
    monkeypatch.setattr(mlflow_tracker, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    plain = MlflowTracker("tracker-outage", services.mlflow_url, spool_folder=tmp_path / "spool")
    tracker = BackgroundTracker(plain)
    run = tracker.start_run("trial", key="trial")
    tracker.log_metrics(run, {"train/loss": 0.0}, 0)
    tracker.flush()
    kill_mlflow()
    try:
        for step in range(1, 200):
            tracker.log_metrics(run, {"train/loss": float(step), "train/lr": 0.1}, step)
        late = tracker.start_run("late", key="late", parent_id=run)
        tracker.log_artifact(late, "written during the outage", "note.txt")
        assert len(list((tmp_path / "spool").iterdir())) == 1
    finally:
        assert embedded.up(home()) == services
    tracker.end_run(late)
    tracker.end_run(run)

    client = MlflowClient(services.mlflow_url)
    history = [(point.step, point.value) for point in client.get_metric_history(run, "train/loss")]
    assert history == [(step, float(step)) for step in range(200)]
    experiment = client.get_experiment_by_name("tracker-outage")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {name: found.info.status for name, found in runs.items()} == {"trial": "FINISHED", "late": "FINISHED"}
    assert runs["late"].data.tags["mlflow.parentRunId"] == run
    note = client.download_artifacts(runs["late"].info.run_id, "note.txt", str(tmp_path))
    assert Path(note).read_text() == "written during the outage"
    assert list((tmp_path / "spool").iterdir()) == []


def test_checkpoint_becomes_a_searchable_external_model(services: Endpoints, tmp_path: Path) -> None:
    tracker = open_tracker(TrackingConfig(experiment="tracker-models"))
    run = tracker.start_run("trial", key="trial")
    model = tracker.log_model(
        run, "trial-step-200", "s3://dpn/runs/trial/200", {"step": 200}, {"eval/demo/accuracy": 0.91}, step=200
    )
    assert tracker.log_model(run, "trial-step-200", "s3://dpn/runs/trial/200") == model
    client = MlflowClient(services.mlflow_url)
    experiment = client.get_experiment_by_name("tracker-models")
    found = client.search_logged_models([experiment.experiment_id], "metrics.`eval/demo/accuracy` > 0.9")
    assert [item.model_id for item in found] == [model]
    assert found[0].params["uri"] == "s3://dpn/runs/trial/200"
    assert found[0].tags["mlflow.model.isExternal"] == "true"
    assert str(found[0].status) == "READY"
    # In the run's curves too, where a point at another step would be a false one.
    assert [point.step for point in client.get_metric_history(run, "eval/demo/accuracy")] == [200]


def test_study_is_read_back_from_mlflow_before_and_after_its_report(services: Endpoints, tmp_path: Path) -> None:
    tracker = open_tracker(TrackingConfig(experiment="tracker-studies"))
    parent = tracker.start_run("study-a", key="study-a", params={"seed": 0})
    specs = (("dense", "dense", 0.95, 1.0), ("dpn_00", "dpn", 0.94, 0.6), ("dpn_01", "dpn", 0.80, 0.7))
    points = []
    for name, method, accuracy, ratio in specs:
        child = tracker.start_run(name, key=f"study-a/{name}", parent_id=parent)
        points.append(make_point(name, method, accuracy, ratio, child))
    with pytest.raises(DpnError, match="no evaluated point yet"):
        study_from_mlflow("study-a")
    for point in points[:2]:
        assert point.run_id is not None
        tracker.log_artifact(point.run_id, point.model_dump_json(), POINT_ARTIFACT)
    unfinished = study_from_mlflow("tracker-studies")
    assert unfinished.name == "study-a"
    assert {point.name for point in unfinished.points} == {"dense", "dpn_00"}
    record = StudyRecord("study-a", tuple(points), tracker.run_url(parent), {"seed": 0})
    paths = build_report(record, tmp_path / "out")
    first = paths.json.read_bytes()
    publish_report(record, paths, tracker, parent)
    publish_report(record, paths, tracker, parent)
    finished = study_from_mlflow("study-a")
    assert {point.name: point.on_front for point in finished.points} == {"dense": True, "dpn_00": True, "dpn_01": False}
    assert finished.meta == {"seed": 0}
    assert build_report(finished, tmp_path / "out").json.read_bytes() == first
    with pytest.raises(DpnError, match="there are: .*study-a"):
        study_from_mlflow("nowhere")
