"""MlflowRuns: the verbs as plain MLflow requests, through MlflowClient alone (no global active run).

Fails when the server cannot be reached; `mlflow_tracker.py` adds patience.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.models.utils import get_external_mlflow_model_spec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.tracker import KEY_TAG, PARENT_TAG, MetricLine

# Limits of one request (MLflow's REST API).
_METRICS_PER_REQUEST, _PARAMS_PER_REQUEST = 1000, 100
_KEY_CHARACTERS, _LONGEST_KEY = re.compile(r"[^\w\-. :/]"), 250
_MODEL_NAME_CHARACTERS = re.compile(r"[/:.%\"']")

Item = TypeVar("Item")


class MlflowRuns:
    """One experiment of one MLflow server."""

    def __init__(self, experiment: str, uri: str) -> None:
        self.experiment = experiment
        self.client = MlflowClient(tracking_uri=uri)
        self._experiment_id: str | None = None
        self._lock = threading.Lock()
        # (key, step, value) already stored, for runs that existed before: a resumed run repeats its last steps.
        self._stored: dict[str, dict[str, set[tuple[int, float]]]] = {}

    @property
    def experiment_id(self) -> str:
        """Id of the experiment, which is made when missing.

        Raises:
            DpnError: the experiment was deleted.
        """
        if self._experiment_id is None:
            self._experiment_id = self._find_or_create_experiment()
        return self._experiment_id

    def _find_or_create_experiment(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                return str(self.client.create_experiment(self.experiment))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(self.experiment)
        if found is None or found.lifecycle_stage != "active":
            raise DpnError(f"MLflow experiment '{self.experiment}' was deleted: restore it or set tracking.experiment")
        return str(found.experiment_id)

    def find_run(self, key: str) -> str | None:
        """Id of the oldest run with this key."""
        filter_string = f"tags.`{KEY_TAG}` = '{_quoted(key)}'"
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
        tags = {_valid_key(name): value for name, value in tags.items()}
        if parent_id is not None:
            tags[PARENT_TAG] = parent_id
        with self._lock:
            run_id = self.find_run(key)
            if run_id is None:
                created = self.client.create_run(self.experiment_id, timestamp, {**tags, KEY_TAG: key}, name)
                run_id = str(created.info.run_id)
                self._log_params(run_id, params)
                return run_id
        self.expect_repeats(run_id)
        known = self.client.get_run(run_id).data.params
        self._log_params(run_id, {name: value for name, value in params.items() if _valid_key(name) not in known})
        self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self.client.update_run(run_id, status="RUNNING")
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        for batch in _batches((Param(_valid_key(key), value) for key, value in params.items()), _PARAMS_PER_REQUEST):
            self.client.log_batch(run_id, params=batch)

    def expect_repeats(self, run_id: str) -> None:
        """From now on look up what the run holds before logging a metric, and leave out what is there."""
        self._stored.setdefault(run_id, {})

    def log_lines(self, run_id: str, lines: Sequence[MetricLine]) -> None:
        """Log the metrics of any number of steps, a thousand values to a request."""
        points: Iterable[Metric] = (
            Metric(_valid_key(key), float(value), line["timestamp"], line["step"])
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

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        timestamp: int,
        step: int = 0,
    ) -> str:
        """Register the checkpoint at `uri` as an external model of the run; an older one of this name is returned.

        The steps are those of `mlflow.create_external_model`, which works on the global tracking address only. The
        model becomes READY last, so one that was interrupted is found and finished.
        """
        name = _MODEL_NAME_CHARACTERS.sub("-", name)
        model = self._find_model(run_id, name)
        if model is not None and str(model.status) == "READY":
            return str(model.model_id)
        if model is None:
            model = self.client.create_logged_model(
                self.experiment_id,
                name,
                run_id,
                tags={MLFLOW_MODEL_IS_EXTERNAL: "true", "dpn.uri": uri},
                params={**params, "uri": uri},
                model_type="checkpoint",
            )
        with tempfile.TemporaryDirectory() as folder:
            get_external_mlflow_model_spec(model).save(str(Path(folder) / MLMODEL_FILE_NAME))
            self.client.log_model_artifacts(model.model_id, folder)
        entities = [
            Metric(_valid_key(key), float(value), timestamp, step, model_id=model.model_id)
            for key, value in metrics.items()
        ]
        if entities:
            self.client.log_batch(run_id, metrics=entities)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=step)])
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _find_model(self, run_id: str, name: str) -> Any | None:
        filter_string = f"source_run_id = '{_quoted(run_id)}' AND name = '{_quoted(name)}'"
        models = self.client.search_logged_models([self.experiment_id], filter_string, max_results=1)
        return models[0] if models else None

    def end_run(self, run_id: str, status: str, timestamp: int) -> None:
        """Close the run."""
        self.client.set_terminated(run_id, status, timestamp)


def _valid_key(key: str) -> str:
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


def _quoted(text: str) -> str:
    """Text inside the single quotes of a filter: MLflow has no escape for them, so they may not occur."""
    if "'" in text:
        raise DpnError(f"a run's key may not hold a quote: {text}")
    return text


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
