"""The tracker against a real MLflow server with its artifacts in S3: outage, resume, models, report and back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import TrackingConfig
from dpn_platform.evaluation.points import POINT_ARTIFACT, FamilyScore, Point
from dpn_platform.reports.build import build_report
from dpn_platform.reports.publish import publish_report
from dpn_platform.reports.record import StudyRecord
from dpn_platform.reports.source import study_from_mlflow
from dpn_platform.services.endpoints import Endpoints
from dpn_platform.tracking import mlflow_tracker, open_tracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker

pytestmark = pytest.mark.services


class Gate:
    """A loopback port that passes connections on to a server, until it is shut: an outage without a dead server."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._listener: socket.socket | None = None
        self._open_connections: list[socket.socket] = []

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        if self._listener is not None:
            # close() alone leaves a thread that waits in accept() listening.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection in self._open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._listener, self._open_connections = None, []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            self._open_connections += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def gate(services: Endpoints) -> Iterator[Gate]:
    gate = Gate(services.mlflow_url)
    gate.open()
    yield gate
    gate.shut()


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


def test_outage_is_survived_and_nothing_is_lost_or_doubled(
    gate: Gate, services: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = MlflowTracker("tracker-outage", gate.url, spool_folder=tmp_path / "spool")
    run = tracker.start_run("trial", key="trial")
    tracker.log_metrics(run, {"train/loss": 0.0}, 0)
    gate.shut()
    for step in range(1, 20):
        tracker.log_metrics(run, {"train/loss": float(step)}, step)
    late = tracker.start_run("late", key="late", parent_id=run)
    tracker.log_artifact(late, "written during the outage", "note.txt")
    assert len(list((tmp_path / "spool").iterdir())) == 1
    gate.open()
    tracker.end_run(late)
    tracker.end_run(run)
    client = MlflowClient(services.mlflow_url)
    steps = [point.step for point in client.get_metric_history(run, "train/loss")]
    assert sorted(steps) == list(range(20))
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
        run, "trial-step-200", "s3://dpn/runs/trial/200", {"step": 200}, {"eval/demo/accuracy": 0.91}
    )
    assert tracker.log_model(run, "trial-step-200", "s3://dpn/runs/trial/200") == model
    client = MlflowClient(services.mlflow_url)
    experiment = client.get_experiment_by_name("tracker-models")
    found = client.search_logged_models([experiment.experiment_id], "metrics.`eval/demo/accuracy` > 0.9")
    assert [item.model_id for item in found] == [model]
    assert found[0].params["uri"] == "s3://dpn/runs/trial/200"
    assert found[0].tags["mlflow.model.isExternal"] == "true"
    assert str(found[0].status) == "READY"


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
