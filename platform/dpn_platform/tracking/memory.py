"""MemoryTracker: the tracker without a server. Same semantics, plain attributes: for tests, and below JSON lines."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.tracker import (
    CURRENT_TAG,
    KEY_TAG,
    NOTE_TAG,
    PARENT_TAG,
    VERSION_TAG,
    Status,
    checked_alias,
    no_such_version,
)

_VALUE_LIMIT = 6000


@dataclass
class MemoryModel:
    """A registered checkpoint."""

    model_id: str
    name: str
    uri: str
    params: dict[str, str]
    metrics: dict[str, float]


@dataclass
class MemoryRun:
    """One run with everything that was logged to it. `metrics` maps a key to {step: value}."""

    run_id: str
    name: str
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, MemoryModel] = field(default_factory=dict)
    data: list[dict[str, object]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @property
    def parent_id(self) -> str | None:
        """Id of the run this one belongs to."""
        return self.tags.get(PARENT_TAG)


@dataclass
class MemoryRegistered:
    """A registered model. `versions` maps a name to what it is, `aliases` an alias to the name of a version."""

    name: str
    description: str = ""
    versions: dict[str, Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)


class MemoryTracker:
    """Keeps runs in a dictionary, `runs`, by id; `registered` models by name and `views` by key."""

    def __init__(self, experiment: str = "dpn", guard: Guard | None = None) -> None:
        self.experiment = experiment
        self.runs: dict[str, MemoryRun] = {}
        self.registered: dict[str, MemoryRegistered] = {}
        self.views: dict[str, View] = {}
        self._guard = guard or Guard()
        self._lock = threading.RLock()

    def start_run(
        self,
        name: str,
        *,
        key: str,
        parent_id: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """See `Tracker.start_run`."""
        with self._lock:
            run = next((run for run in self.runs.values() if run.tags[KEY_TAG] == key), None)
            if run is None:
                run = MemoryRun(self._id_of(key, len(self.runs)), self._guard.text(name), tags={KEY_TAG: key})
                self.runs[run.run_id] = run
            run.status = "RUNNING"
            if parent_id is not None:
                run.tags[PARENT_TAG] = parent_id
            run.tags.update(self._guard.values(tags or {}, _VALUE_LIMIT))
            run.params = self._guard.values(params or {}, _VALUE_LIMIT) | run.params
            return run.run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `Tracker.log_metrics`."""
        with self._lock:
            for key, value in metrics.items():
                self._run(run_id).metrics.setdefault(key, {})[step] = float(value)

    def log_artifact(self, run_id: str, path_or_text: Path | str, name: str) -> None:
        """See `Tracker.log_artifact`."""
        if isinstance(path_or_text, str):
            self._keep(run_id, name, self._guard.text(path_or_text).encode())
            return
        if not path_or_text.exists():
            raise DpnError(f"artifact {path_or_text}: no such file")
        self._guard.check_file(path_or_text)
        if not path_or_text.is_dir():
            self._keep(run_id, name, path_or_text.read_bytes())
            return
        for file in sorted(item for item in path_or_text.rglob("*") if item.is_file()):
            self._keep(run_id, f"{name}/{file.relative_to(path_or_text).as_posix()}", file.read_bytes())

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> str:
        """See `Tracker.log_model`."""
        models = self._run(run_id).models
        with self._lock:
            if name not in models:
                safe = self._guard.values(params or {}, _VALUE_LIMIT)
                model_id = f"m-{run_id}-{len(models):02d}"
                models[name] = MemoryModel(model_id, name, self._guard.text(uri), safe, dict(metrics or {}))
            return models[name].model_id

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """See `Tracker.describe`."""
        with self._lock:
            wanted = {**(tags or {}), **({} if note is None else {NOTE_TAG: note})}
            self._run(run_id).tags.update(self._guard.values(wanted, _VALUE_LIMIT))

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """See `Tracker.log_data`."""
        with self._lock:
            kept = self._run(run_id).data
            for one in map(asdict, data):
                safe = {**one, "uri": self._guard.text(one["uri"])}
                if safe not in kept:
                    kept.append(safe)

    def register_models(
        self,
        run_id: str,
        name: str,
        versions: Sequence[Version],
        *,
        description: str = "",
        aliases: Mapping[str, str | None] | None = None,
    ) -> None:
        """See `Tracker.register_models`."""
        with self._lock:
            registered = self.registered.setdefault(name, MemoryRegistered(name))
            registered.description = self._guard.text(description)
            for left in [known for known in registered.versions if known not in {one.name for one in versions}]:
                old = registered.versions[left]
                registered.versions[left] = replace(old, tags={**old.tags, CURRENT_TAG: "false"})
            for one in versions:
                own = {VERSION_TAG: one.name, CURRENT_TAG: "true"}
                safe = self._guard.values({**one.tags, **own}, _VALUE_LIMIT)
                registered.versions[one.name] = replace(one, description=self._guard.text(one.description), tags=safe)
            outputs = self._run(run_id).outputs
            outputs += [one.model_id for one in versions if one.model_id not in outputs]
            for alias, version in (aliases or {}).items():
                MemoryTracker.set_alias(self, name, alias, version)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Tracker.set_alias`."""
        with self._lock:
            registered = self._registered(name)
            if version is None:
                registered.aliases.pop(checked_alias(alias), None)
            elif version in registered.versions:
                registered.aliases[checked_alias(alias)] = version
            else:
                raise no_such_version(name, version, registered.versions)

    def show(self, view: View) -> str:
        """See `Tracker.show`."""
        self.views[view.key] = view
        return f"{self.experiment_url()}/{view.key}"

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """See `Tracker.end_run`."""
        self._run(run_id).status = status

    def experiment_url(self) -> str:
        """A made-up address that names the experiment."""
        return f"memory://{self.experiment}"

    def run_url(self, run_id: str) -> str:
        """A made-up address that names the run."""
        return f"{self.experiment_url()}/{run_id}"

    def children(self, run_id: str) -> list[MemoryRun]:
        """The runs that belong to `run_id`, in the order they were started."""
        return [run for run in self.runs.values() if run.parent_id == run_id]

    def _id_of(self, key: str, number: int) -> str:
        return f"run-{number:04d}"

    def _keep(self, run_id: str, name: str, data: bytes) -> None:
        self._run(run_id).artifacts[name] = data

    def _registered(self, name: str) -> MemoryRegistered:
        if name not in self.registered:
            raise DpnError(f"no registered model '{name}' in experiment '{self.experiment}'")
        return self.registered[name]

    def _run(self, run_id: str) -> MemoryRun:
        if run_id not in self.runs:
            raise DpnError(f"no run '{run_id}' in experiment '{self.experiment}'")
        return self.runs[run_id]
