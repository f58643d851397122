"""MlflowRuns: what happens to runs, as plain MLflow requests.

Fails when the server cannot be reached; `mlflow_tracker.py` adds patience.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from dpn_platform.tracking.mlflow_experiment import MlflowExperiment
from dpn_platform.tracking.mlflow_views import quoted
from dpn_platform.tracking.tracker import KEY_TAG, NOTE_TAG, PARENT_TAG, MetricLine

# Limits of one request (MLflow's REST API).
_METRICS_PER_REQUEST, _PER_REQUEST = 1000, 100
_KEY_CHARACTERS, _LONGEST_KEY = re.compile(r"[^\w\-. :/]"), 250
# A picture in markdown that lies nowhere else: no scheme, no leading slash.
_PICTURE = re.compile(r"(!\[[^\]]*\])\((?![\w+.-]+:|/)([^)\s]+)\)")

Item = TypeVar("Item")


class MlflowRuns(MlflowExperiment):
    """The runs of one experiment."""

    def __init__(self, experiment: str, uri: str) -> None:
        super().__init__(experiment, uri)
        self._lock = threading.Lock()
        self._made: set[str] = set()
        # (key, step, value) already stored, for runs that existed before: a resumed run repeats its last steps.
        self._stored: dict[str, dict[str, set[tuple[int, float]]]] = {}

    def find_run(self, key: str) -> str | None:
        """Id of the oldest run with this key."""
        filter_string = f"tags.`{KEY_TAG}` = '{quoted(key)}'"
        runs = self.client.search_runs([self.experiment_id], filter_string, max_results=1, order_by=["start_time ASC"])
        return str(runs[0].info.run_id) if runs else None

    def start_run(
        self,
        name: str,
        key: str,
        parent_id: str | None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        timestamp: int,
    ) -> str:
        """Continue the run with this key or make it. Parameters that it has are left as they are."""
        tags = {valid_key(name): value for name, value in tags.items()}
        if parent_id is not None:
            tags[PARENT_TAG] = parent_id
        with self._lock:
            run_id = self.find_run(key)
            if run_id is None:
                created = self.client.create_run(self.experiment_id, timestamp, {**tags, KEY_TAG: key}, name)
                run_id = str(created.info.run_id)
                self._made.add(run_id)
                self._log_params(run_id, params)
                return run_id
        self.expect_repeats(run_id)
        known = self.client.get_run(run_id).data.params
        self._log_params(run_id, {name: value for name, value in params.items() if valid_key(name) not in known})
        self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        for batch in _batches((Param(valid_key(key), value) for key, value in params.items()), _PER_REQUEST):
            self.client.log_batch(run_id, params=batch)

    def expect_repeats(self, run_id: str) -> None:
        """From now on look up what the run holds before logging a metric, and leave out what is there."""
        self._stored.setdefault(run_id, {})

    def log_lines(self, run_id: str, lines: Sequence[MetricLine]) -> None:
        """Log the metrics of any number of steps, a thousand values to a request."""
        if run_id not in self._made:  # another process has logged to it
            self.expect_repeats(run_id)
        points: Iterable[Metric] = (
            Metric(valid_key(key), float(value), line["timestamp"], line["step"])
            for line in lines
            for key, value in line["metrics"].items()
        )
        if run_id in self._stored:
            points = {(point.key, point.step, point.value): point for point in points}.values()
        for batch in _batches(points, _METRICS_PER_REQUEST):
            self._log_new(run_id, batch)

    def _log_new(self, run_id: str, batch: list[Metric]) -> None:
        if run_id not in self._stored:
            self.client.log_batch(run_id, metrics=batch)
            return
        new = [point for point in batch if (point.step, point.value) not in self._history(run_id, point.key)]
        if new:
            self.client.log_batch(run_id, metrics=new)
        for point in new:  # only now: a request that failed is made again
            self._history(run_id, point.key).add((point.step, point.value))

    def _history(self, run_id: str, key: str) -> set[tuple[int, float]]:
        histories = self._stored[run_id]
        if key not in histories:
            histories[key] = {(point.step, point.value) for point in self.client.get_metric_history(run_id, key)}
        return histories[key]

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Keep a text as the artifact `name`."""
        self.client.log_text(run_id, text, name)

    def log_path(self, run_id: str, path: Path, name: str) -> None:
        """Keep a file or a folder as the artifact `name`."""
        if path.is_dir():
            self.client.log_artifacts(run_id, str(path), name)
            return
        folder, _, base = name.rpartition("/")
        if base == path.name:
            self.client.log_artifact(run_id, str(path), folder or None)
            return
        # The client keeps a file's own name; a link of the wanted name spares a copy.
        with tempfile.TemporaryDirectory() as temporary:
            link = Path(temporary) / base
            link.symlink_to(path.resolve())
            self.client.log_artifact(run_id, str(link), folder or None)

    def describe(self, run_id: str, note: str | None, tags: Mapping[str, str]) -> None:
        """Renew tags, and the description; the pictures in it are the run's artifacts."""
        wanted = {valid_key(name): value for name, value in tags.items()}
        if note is not None:
            wanted[NOTE_TAG] = _PICTURE.sub(lambda found: f"{found[1]}({_artifact_address(run_id, found[2])})", note)
        for batch in _batches((RunTag(name, value) for name, value in wanted.items()), _PER_REQUEST):
            self.client.log_batch(run_id, tags=batch)

    def log_data(self, run_id: str, data: Sequence[Mapping[str, Any]]) -> None:
        """Name data sets as inputs of the run, each once; the fields of `records.DataInput`."""
        inputs = [
            DatasetInput(
                Dataset(
                    name=one["name"],
                    digest=one["digest"],
                    source_type="s3" if one["uri"].startswith("s3://") else "local",
                    source=json.dumps({"uri": one["uri"]}),
                    profile=json.dumps({"num_rows": one["rows"]}),
                ),
                [InputTag(MLFLOW_DATASET_CONTEXT, one["context"])],
            )
            for one in data
        ]
        self.client.log_inputs(run_id, inputs)

    def end_run(self, run_id: str, status: str, timestamp: int) -> None:
        """Close the run."""
        self.client.set_terminated(run_id, status, timestamp)


def valid_key(key: str) -> str:
    """A name MLflow accepts: letters of any script, digits and `_-. :/`, at most 250 of them.

    Others become `_`, so does a `/` in what is no plain path, and what is too long is cut; a digest of the whole keeps
    two names apart then.
    """
    valid = _KEY_CHARACTERS.sub("_", key)
    if posixpath.normpath(valid) != valid or valid.startswith(("/", ".")):
        valid = valid.replace("/", "_").lstrip(".")
    if valid == key and len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{valid[: _LONGEST_KEY - 9]}-{digest}"


def _artifact_address(run_id: str, name: str) -> str:
    """Of an artifact, relative to the page of the UI."""
    return f"get-artifact?path={quote(name, safe='')}&run_uuid={run_id}"


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
