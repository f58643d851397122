"""Every tracker with a way to look inside: memory, JSON lines and MLflow (on SQLite, without a server)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.storage import list_files, read_bytes
from dpn_platform.tracking import MemoryTracker, Tracker
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.jsonl import JsonlTracker
from dpn_platform.tracking.mlflow_tracker import MlflowTracker

SECRET = "correct-horse-battery"
GUARD = Guard({"AWS_SECRET_ACCESS_KEY": SECRET})


@dataclass(frozen=True)
class Seen:
    """A run as the tests look at it, whichever tracker kept it."""

    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class SeenRegistered:
    """A registered model: version -> (is current, model id), alias -> version."""

    versions: dict[str, tuple[str, str]]
    aliases: dict[str, str]
    count: int
    description: str


class Harness:
    """A tracker with a way to look inside, through `kept` where the tracker itself hands on to another."""

    def __init__(self, tracker: Tracker, kept: MemoryTracker | MlflowTracker, make: Callable[[], Tracker]) -> None:
        self.tracker = tracker
        self.kept = kept
        self._make = make
        self.latest = tracker

    def reopen(self) -> Tracker:
        """Another process on the same experiment, after the first has sent everything."""
        self._settled()
        self.latest = self._make()
        return self.latest

    def see(self, run_id: str) -> Seen:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            run = kept._run(run_id)
            return Seen(
                run.name, run.status, run.params, run.tags, {k: sorted(v.items()) for k, v in run.metrics.items()}
            )
        client = kept._runs.client
        found = client.get_run(run_id)
        metrics = {
            key: sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))
            for key in found.data.metrics
        }
        return Seen(found.info.run_name, found.info.status, found.data.params, found.data.tags, metrics)

    def registered(self, name: str) -> SeenRegistered:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            if isinstance(kept, JsonlTracker):
                kept._load_registered(name)
            model = kept.registered[name]
            versions = {key: (one.tags["dpn.on_front"], one.model_id) for key, one in model.versions.items()}
            return SeenRegistered(versions, model.aliases, len(versions), model.description)
        client = kept._runs.client
        found = client.search_model_versions(f"name = '{name}'")
        names = {str(one.version): one.tags["dpn.point"] for one in found}
        registered = client.get_registered_model(name)
        versions = {
            one.tags["dpn.point"]: (one.tags["dpn.on_front"], one.source.removeprefix("models:/")) for one in found
        }
        aliases = {alias: names[str(version)] for alias, version in registered.aliases.items()}
        return SeenRegistered(versions, aliases, len(found), registered.description)

    def outputs(self, run_id: str) -> set[str]:
        kept = self._settled()
        if isinstance(kept, MemoryTracker):
            return set(kept._run(run_id).outputs)
        return {one.model_id for one in kept._runs.client.get_run(run_id).outputs.model_outputs}

    def artifact(self, run_id: str, name: str, folder: Path) -> bytes:
        kept = self._settled()
        if isinstance(kept, JsonlTracker):
            return read_bytes(f"{kept.uri}/{run_id}/artifacts/{name}")
        if isinstance(kept, MemoryTracker):
            return kept.runs[run_id].artifacts[name]
        return Path(kept._runs.client.download_artifacts(run_id, name, str(folder))).read_bytes()

    def run_count(self) -> int:
        kept = self._settled()
        if isinstance(kept, JsonlTracker):
            return len(list_files(kept.uri, "/run.json"))
        if isinstance(kept, MemoryTracker):
            return len(kept.runs)
        return len(kept._runs.client.search_runs([kept._runs.experiment_id]))

    def _settled(self) -> MemoryTracker | MlflowTracker:
        """What was kept, as another process finds it, after everything that waits was sent."""
        for tracker in (self.tracker, self.latest):
            if isinstance(tracker, BackgroundTracker):
                tracker.flush()
        if isinstance(self.kept, JsonlTracker):
            self.kept.runs.clear()
        return self.kept


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database for the module: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(params=["memory", "jsonl", "jsonl in the background", "mlflow", "mlflow in the background"])
def harness(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    monkeypatch.chdir(tmp_path)  # a SQLite address keeps artifacts in the working folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)  # its registry looks models up there, as a server does
    memory = MemoryTracker(guard=GUARD)
    experiment = re.sub(r"\W", "_", request.node.name)

    def keeper() -> Any:
        if request.param == "memory":
            return memory
        if "jsonl" in request.param:
            return JsonlTracker(experiment, str(tmp_path / "tracking"), GUARD)
        return MlflowTracker(experiment, database, spool_folder=tmp_path / "spool", guard=GUARD)

    def make() -> Tracker:
        return BackgroundTracker(keeper()) if "background" in request.param else keeper()

    yield Harness(make(), keeper(), make)
    assert not (tmp_path / "spool").exists()
