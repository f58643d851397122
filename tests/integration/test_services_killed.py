"""Services of another state folder, beside those of the run: killed by hand, told, mended; what was written is kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from mlflow import MlflowClient

from dpn_platform import services as embedded
from dpn_platform.services.home import Home, record_path
from dpn_platform.services.processes import ProcessRecord, is_running, leftovers, stop
from dpn_platform.services.servers import SERVERS
from dpn_platform.tracking import mlflow_delivery
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]


class Second(NamedTuple):
    """A state folder of its own with everything running, and `dpn VERB --json` there."""

    home: Path
    endpoints: embedded.Endpoints
    dpn: Callable[[str], Any]


@pytest.fixture(scope="module")
def second(services: embedded.Endpoints, run_dpn: Callable[..., Any], tmp_path_factory: Any) -> Iterator[Second]:
    # A long path with a space: sockets must move to a short one, commands must be quoted.
    home = tmp_path_factory.mktemp("a long name with spaces " * 4) / "second home"
    env = {"DPN_HOME": str(home), "AWS_ENDPOINT_URL": "", "RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": ""}

    def dpn(verb: str) -> Any:
        return json.loads(run_dpn(verb, "--json", **env).stdout)

    try:
        assert dpn("up")["state"] == "up"
        endpoints = embedded.endpoints(home)
        assert endpoints is not None
        yield Second(home, endpoints, dpn)
        family = [process for server in SERVERS for process in leftovers(record_of(server.name, home))]
    finally:
        stopped = dpn("down")["stopped"]
        shutil.rmtree(Home(home).runtime, ignore_errors=True)
    assert stopped == ["s3", "mlflow", "ray"]
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert embedded.status().state == "up", "the first home's services were left alone"


def record_of(name: str, home: Path) -> ProcessRecord:
    record = ProcessRecord.load(record_path(Home(home), name))
    assert record is not None
    return record


def test_two_homes_share_no_port(second: Second) -> None:
    ports, ours = (
        json.loads((Path(folder) / "ports.json").read_text()).values()
        for folder in (second.home, os.environ["DPN_HOME"])
    )
    assert set(ports).isdisjoint(ours)


def test_killed_services_are_told_and_mended_and_keep_what_was_written(second: Second) -> None:
    env = read_env_file(second.home / "env.sh")
    write = "from dpn_platform import storage; storage.write_bytes('s3://dpn/kept', b'kept')"
    assert run_python(write, env) == ""
    killed = {name: record_of(name, second.home) for name in ("s3", "mlflow")}
    ray_pid = record_of("ray", second.home).pid
    for record in killed.values():
        os.kill(record.pid, signal.SIGKILL)
        while is_running(record):
            time.sleep(0.1)
    wait_until_closed(int(second.endpoints.s3_url.rpartition(":")[2]))

    assert second.dpn("status")["state"] == "partial"
    now = {service.name: service for service in embedded.status(second.home).services}
    assert {name: service.state for name, service in now.items()} == {"s3": "down", "mlflow": "down", "ray": "up"}
    assert now["mlflow"].detail.startswith(f"pid {killed['mlflow'].pid} is gone")
    assert second.dpn("up")["state"] == "up"
    assert embedded.endpoints(second.home) == second.endpoints
    assert record_of("ray", second.home).pid == ray_pid, "the others were left alone"
    read = "from dpn_platform import storage; print(storage.read_bytes('s3://dpn/kept').decode())"
    assert run_python(read, env).strip() == "kept"


def test_a_killed_mlflow_neither_stops_the_work_nor_loses_or_doubles_anything(
    second: Second, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written to all along while the server is killed and started again, in the background as `dpn train` does."""
    monkeypatch.setattr(mlflow_delivery, "_FIRST_PAUSE_S", 0.05)
    for name, value in second.endpoints.s3_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    url = second.endpoints.mlflow_url
    plain = MlflowTracker("tracker-outage", url, spool_folder=tmp_path / "spool")
    tracker = BackgroundTracker(plain)
    run = tracker.start_run("trial", key="trial")
    tracker.log_metrics(run, {"train/loss": 0.0}, 0)
    tracker.flush()
    stop({record_of("mlflow", second.home): 0.0})
    try:
        for step in range(1, 200):
            tracker.log_metrics(run, {"train/loss": float(step), "train/lr": 0.1}, step)
        late = tracker.start_run("late", key="late", parent_id=run)
        tracker.log_artifact(late, "written during the outage", "note.txt")
        assert len(list((tmp_path / "spool").iterdir())) == 1
    finally:
        assert embedded.up(second.home) == second.endpoints
    tracker.end_run(late)
    tracker.end_run(run)

    client = MlflowClient(url)
    history = [(point.step, point.value) for point in client.get_metric_history(run, "train/loss")]
    assert history == [(step, float(step)) for step in range(200)]
    experiment = client.get_experiment_by_name("tracker-outage")
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert {name: found.info.status for name, found in runs.items()} == {"trial": "FINISHED", "late": "FINISHED"}
    assert runs["late"].data.tags["mlflow.parentRunId"] == run
    note = client.download_artifacts(runs["late"].info.run_id, "note.txt", str(tmp_path))
    assert Path(note).read_text() == "written during the outage"
    assert list((tmp_path / "spool").iterdir()) == []


def read_env_file(path: Path) -> dict[str, str]:
    lines = path.read_text().replace("'", "").splitlines()
    return dict(line.removeprefix("export ").split("=", 1) for line in lines)


def run_python(script: str, env: dict[str, str]) -> str:
    """Runs a few lines with the environment of a state folder."""
    code = f"import sys; sys.path[:0] = {[str(Path(embedded.__file__).parents[2])]!r}; {script}"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_closed(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"port {port} is still open")
