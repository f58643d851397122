"""JsonlTracker: runs as folders of JSON and JSON lines, on a disk or in S3, without a server.

    <folder>/<experiment>/<run>/run.json         name, status, parameters, tags, data, models
    <folder>/<experiment>/<run>/metrics.jsonl    one line per step
    <folder>/<experiment>/<run>/artifacts/       files and texts by name
    <folder>/<experiment>/registered/<name>.json registered models: versions and aliases

A run is written by one process at a time. Every object is replaced in one step, the metric lines too: S3 cannot append.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import MissingObjectError, join_uri, read_bytes, read_json, write_bytes, write_json
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.memory import MemoryModel, MemoryRegistered, MemoryRun, MemoryTracker
from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.tracker import MetricLine, Status

_ODD = re.compile(r"[^\w.-]+")


class JsonlTracker(MemoryTracker):
    """The Tracker over a folder: the memory of its runs, written down after each verb."""

    def __init__(self, experiment: str, uri: str, guard: Guard | None = None) -> None:
        """Args: uri: of the folder, which is made when missing."""
        super().__init__(experiment, guard)
        self.uri = join_uri(uri, _ODD.sub("_", experiment))

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
            self._load(self._id_of(key, 0))  # another process may have continued it
            run_id = super().start_run(name, key=key, parent_id=parent_id, params=params, tags=tags)
            self._write(run_id)
            return run_id

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `Tracker.log_metrics`."""
        self.log_lines(run_id, [{"step": step, "timestamp": 0, "metrics": dict(metrics)}])

    def log_lines(self, run_id: str, lines: list[MetricLine]) -> None:
        """Log the metrics of several steps at once."""
        with self._lock:
            for line in lines:
                super().log_metrics(run_id, line["metrics"], line["step"])
            by_step: dict[int, dict[str, float]] = {}
            for key, values in self._run(run_id).metrics.items():
                for step, value in values.items():
                    by_step.setdefault(step, {"step": step})[key] = value
            text = "".join(json.dumps(by_step[step]) + "\n" for step in sorted(by_step))
            write_bytes(f"{self.uri}/{run_id}/metrics.jsonl", text.encode())

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
        with self._lock:
            model_id = super().log_model(run_id, name, uri, params, metrics, step)
            self._write(run_id)
            return model_id

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """See `Tracker.describe`."""
        with self._lock:
            super().describe(run_id, note=note, tags=tags)
            self._write(run_id)

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """See `Tracker.log_data`."""
        with self._lock:
            super().log_data(run_id, data)
            self._write(run_id)

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
            self._load_registered(name)
            super().register_models(run_id, name, versions, description=description, aliases=aliases)
            self._write(run_id)
            write_json(self._registered_uri(name), asdict(self.registered[name]))

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Tracker.set_alias`."""
        with self._lock:
            self._load_registered(name)
            super().set_alias(name, alias, version)
            write_json(self._registered_uri(name), asdict(self.registered[name]))

    def show(self, view: View) -> str:
        """Nothing: a folder has no views."""
        return ""

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """See `Tracker.end_run`."""
        with self._lock:
            super().end_run(run_id, status)
            self._write(run_id)

    def experiment_url(self) -> str:
        """URI of the experiment's folder."""
        return self.uri

    def _id_of(self, key: str, number: int) -> str:
        """The key itself where it can name a folder, else with a digest that keeps two keys apart."""
        plain = _ODD.sub("-", key).lstrip(".")
        return plain if plain == key else f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def _keep(self, run_id: str, name: str, data: bytes) -> None:
        self._run(run_id)
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise DpnError(f"artifact '{name}': expected a path below the run's folder")
        write_bytes("/".join([self.uri, run_id, "artifacts", *parts]), data)

    def _run(self, run_id: str) -> MemoryRun:
        with self._lock:
            if run_id not in self.runs:
                self._load(run_id)
            return super()._run(run_id)

    def _registered_uri(self, name: str) -> str:
        return f"{self.uri}/registered/{self._id_of(name, 0)}.json"

    def _load_registered(self, name: str) -> None:
        """What another process may have changed since."""
        try:
            document = read_json(self._registered_uri(name))
        except MissingObjectError:
            return
        versions = {key: Version(**version) for key, version in document.pop("versions").items()}
        self.registered[name] = MemoryRegistered(**document, versions=versions)

    def _load(self, run_id: str) -> None:
        try:
            document = read_json(f"{self.uri}/{run_id}/run.json")
        except MissingObjectError:
            return
        models = {name: MemoryModel(**model) for name, model in document.pop("models").items()}
        run = MemoryRun(**document, models=models)
        try:
            lines = read_bytes(f"{self.uri}/{run_id}/metrics.jsonl").decode().splitlines()
        except MissingObjectError:
            lines = []
        for line in map(json.loads, lines):
            step = int(line.pop("step"))
            for key, value in line.items():
                run.metrics.setdefault(key, {})[step] = value
        self.runs[run_id] = run

    def _write(self, run_id: str) -> None:
        document = asdict(self.runs[run_id])
        del document["metrics"], document["artifacts"]
        write_json(f"{self.uri}/{run_id}/run.json", document)
