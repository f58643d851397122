"""The tracker against a real MLflow server with its artifacts in S3: resume, models, report and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from dpn_platform.config.errors import DpnError
from dpn_platform.config.tracking import TrackingConfig
from dpn_platform.evaluation.points import POINT_ARTIFACT, FamilyScore, Point
from dpn_platform.reports.study.build import build_report
from dpn_platform.reports.study.publish import publish_report
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.source import study_from_mlflow
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.tracking import DataInput, Version, open_tracker

pytestmark = pytest.mark.services


def make_point(name: str, method: str, accuracy: float, ratio: float, run_id: str) -> Point:
    ci = (accuracy - 0.02, accuracy + 0.02)
    return Point(
        name=name,
        method=method,
        is_control=method != "dpn",
        accuracy=accuracy,
        accuracy_ci=ci,
        per_family={"reading": FamilyScore(n=100, accuracy=accuracy, ci=ci)},
        flops_ratio={"eq8": ratio, "swiglu": ratio},
        visual_tokens_mean=64 * ratio,
        n=100,
        run_id=run_id,
    )


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


def test_a_published_study_is_described_and_its_front_registered_once(services: Endpoints, tmp_path: Path) -> None:
    tracker = open_tracker(TrackingConfig(experiment="tracker-fronts"))
    parent = tracker.start_run("study-f", key="study-f", tags={"dpn.kind": "study"})
    tracker.log_data(parent, [DataInput("set/train", "0123456789abcdef", "s3://dpn/set", 40, "training")])
    points = []
    for name, method, accuracy, ratio in (
        ("dense", "dense", 0.95, 1.0),
        ("a", "dpn", 0.9, 0.39),
        ("b", "dpn", 0.8, 0.7),
    ):
        child = tracker.start_run(f"study-f-{name}", key=f"study-f/{name}", parent_id=parent)
        table = tmp_path / name / "outcomes.parquet"
        table.parent.mkdir()
        table.write_bytes(name.encode())
        made = {"checkpoint_uri": f"s3://dpn/runs/{name}/export", "outcomes_uri": str(table)}
        points.append(make_point(name, method, accuracy, ratio, child).model_copy(update=made))
    trained = tracker.log_model(str(points[1].run_id), "study-f-a", "s3://dpn/runs/a/export")
    record = StudyRecord("study-f", tuple(points), tracker.run_url(parent), {"command": "dpn sweep x.yaml"})
    paths = build_report(record, tmp_path / "out")
    charts = {publish_report(record, paths, tracker, parent) for _ in range(2)}
    assert len(charts) == 1

    client = MlflowClient(services.mlflow_url)
    run = client.get_run(parent)
    note = run.data.tags["mlflow.note.content"]
    assert f"get-artifact?path=report%2Ffront-small.png&run_uuid={parent}" in note
    assert services.mlflow_url not in note
    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["set/train"]
    assert {one.path for one in client.list_artifacts(parent, "outcomes")} == {
        "outcomes/outcomes.json", "outcomes/a.parquet", "outcomes/dense.parquet"
    }  # fmt: skip
    assert client.get_metric_history(parent, "front/accuracy_at_0.40")[-1].value == 0.9
    versions = {one.tags["dpn.point"]: one for one in client.search_model_versions("name = 'study-f'")}
    assert set(versions) == {"dense", "a"}
    assert versions["a"].source == f"models:/{trained}"  # the model that its trial had already
    assert client.get_model_version_by_alias("study-f", "budget-40").tags["dpn.uri"] == "s3://dpn/runs/a/export"
    assert client.get_model_version_by_alias("study-f", "best").version == versions["dense"].version
    assert {one.model_id for one in run.outputs.model_outputs} >= {trained}
    assert len(run.outputs.model_outputs) == 2

    other = open_tracker(TrackingConfig(experiment="tracker-other"))
    stranger = other.start_run("study-f", key="study-f")
    model = other.log_model(stranger, "m", "s3://x")
    other.register_models(stranger, "study-f", [Version("z", model)], aliases={"best": "z"})
    assert client.get_model_version_by_alias("study-f", "best").version == versions["dense"].version
