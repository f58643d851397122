"""MlflowTracker: MLflow behind the ten verbs, patient and discreet.

A server that is away for a while never stops the work: a few quick attempts, then requests are spooled to disk and
sent, in order, when it answers again. Credentials are taken out before anything is sent or spooled.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.guard import Guard, clip
from dpn_platform.tracking.mlflow_models import MlflowModels, model_name
from dpn_platform.tracking.mlflow_views import view_address
from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.spool import Entry, Spool
from dpn_platform.tracking.tracker import TAG_LIMIT, MetricLine, Status, checked_alias, metric_line, now_ms

log = logging.getLogger(__name__)

ATTEMPTS = 3
_FIRST_PAUSE_S = 0.5
_PROBE_EVERY_S = 10.0  # while the server is away, one attempt this often; everything between is spooled at once
_PENDING = "pending:"
_PARAM_LIMIT = 6000
#: verbs that need not be told when they were asked for
_UNTIMED = ("log_text", "log_path", "log_lines", "describe", "log_data", "register_models", "set_alias")
_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "ABORTED"}


def is_unreachable(error: BaseException) -> bool:
    """Whether a request failed because the server is away or overloaded, not because the request is wrong."""
    if isinstance(error, RequestException | ConnectionError | TimeoutError):
        return True
    return isinstance(error, MlflowException) and error.error_code in _TRANSIENT


class MlflowTracker:
    """The Tracker over an MLflow server (or a `sqlite:` address, for tests)."""

    def __init__(
        self, experiment: str, uri: str, *, spool_folder: Path | None = None, guard: Guard | None = None
    ) -> None:
        """Nothing is sent yet; spools that dead processes left are adopted.

        Args:
            experiment: made when missing.
            uri: address of the server.
            spool_folder: default `spool` in the state folder.
            guard: default: one that knows the environment's secrets.
        """
        # MLflow's own defaults keep one request trying for minutes, which would stall the training loop.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        self._uri = uri
        self._guard = guard or Guard()
        self._runs = MlflowModels(experiment, uri)
        self._spool = Spool(experiment, uri, spool_folder)
        self._lock = threading.RLock()
        self._next_probe = 0.0
        self._ids: dict[str, str] = {}
        if adopted := self._spool.adopt_orphans():
            log.warning("MLflow: %d requests of an earlier process were not sent, sending them now", adopted)

    def start_run(
        self,
        name: str,
        *,
        key: str,
        parent_id: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """See `Tracker.start_run`. While the server is away the id is provisional; every verb accepts it."""
        entry = self._entry("start_run", name=self._guard.text(name), key=key, parent_id=parent_id)
        entry["params"] = self._guard.values(params or {}, _PARAM_LIMIT)
        entry["tags"] = self._guard.values(tags or {}, TAG_LIMIT)
        return str(self._send(entry) or _PENDING + key)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `Tracker.log_metrics`."""
        if metrics:
            self.log_lines(run_id, [metric_line(metrics, step)])

    def log_lines(self, run_id: str, lines: list[MetricLine]) -> None:
        """Log the metrics of several steps at once."""
        self._send(self._entry("log_lines", run_id=run_id, lines=lines))

    def log_artifact(self, run_id: str, path_or_text: Path | str, name: str) -> None:
        """See `Tracker.log_artifact`.

        Raises:
            DpnError: a file holds a credential or does not exist.
        """
        if isinstance(path_or_text, str):
            self._send(self._entry("log_text", run_id=run_id, text=self._guard.text(path_or_text), name=name))
            return
        if not path_or_text.exists():
            raise DpnError(f"artifact {path_or_text}: no such file")
        self._guard.check_file(path_or_text)
        self._send(self._entry("log_path", run_id=run_id, path=str(path_or_text.absolute()), name=name))

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> str:
        """See `Tracker.log_model`. While the server is away the id returned is provisional."""
        entry = self._entry("log_model", run_id=run_id, name=name, uri=self._guard.text(uri), step=step)
        entry["params"] = self._guard.values(params or {}, _PARAM_LIMIT)
        entry["metrics"] = {key: float(value) for key, value in (metrics or {}).items()}
        return str(self._send(entry) or f"{_PENDING}{run_id}/{model_name(name)}")

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """See `Tracker.describe`."""
        # The server's own pages, seen from its pages: who reads may know it by another name.
        safe = None if note is None else clip(self._guard.text(note).replace(f"{self._ui()}/#/", "#/"), TAG_LIMIT)
        self._send(self._entry("describe", run_id=run_id, note=safe, tags=self._guard.values(tags or {}, TAG_LIMIT)))

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """See `Tracker.log_data`."""
        plain = [{**asdict(one), "uri": self._guard.text(one.uri)} for one in data]
        self._send(self._entry("log_data", run_id=run_id, data=plain))

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
        entry = self._entry(
            "register_models",
            run_id=run_id,
            name=name,
            aliases={checked_alias(alias): one for alias, one in (aliases or {}).items()},
        )
        entry["description"] = self._guard.text(description)
        entry["versions"] = [
            {
                **asdict(one),
                "description": self._guard.text(one.description),
                "tags": self._guard.values(one.tags, TAG_LIMIT),
            }
            for one in versions
        ]
        self._send(entry)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Tracker.set_alias`."""
        self._send(self._entry("set_alias", name=name, alias=checked_alias(alias), version=version))

    def show(self, view: View) -> str:
        """See `Tracker.show`; while the server is away, its address alone."""
        self._send(self._entry("show", view=asdict(view)))
        return self._ui() if len(self._spool) else view_address(self.experiment_url(), view)

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """See `Tracker.end_run`."""
        self._next_probe = 0.0  # the last chance of this run: try even if the server was away a moment ago
        self._send(self._entry("end_run", run_id=run_id, status=status))

    def experiment_url(self) -> str:
        """Address of the experiment in the UI; of the server when it cannot be reached."""
        try:
            return f"{self._ui()}/#/experiments/{self._runs.experiment_id}"
        except Exception as error:
            if not is_unreachable(error):
                raise
            return self._ui()

    def run_url(self, run_id: str) -> str:
        """Address of the run in the UI."""
        real = self._ids.get(run_id, run_id)
        return self.experiment_url() + ("" if real.startswith(_PENDING) else f"/runs/{real}")

    def _ui(self) -> str:
        return re.sub(r"(?<=://)[^/@]+@", "", self._uri).rstrip("/")

    @staticmethod
    def _entry(verb: str, **arguments: Any) -> Entry:
        return {"verb": verb, "timestamp": now_ms(), **arguments}

    def _send(self, entry: Entry) -> str | None:
        """Send what waits, then this; spool it when the server is away. Returns the verb's result, if sent."""
        with self._lock:
            if len(self._spool) == 0:
                attempts = ATTEMPTS
            elif time.monotonic() >= self._next_probe and self._drain():
                attempts = 1
            else:
                self._spool.append(entry)
                return None
        failure = None
        for attempt in range(attempts):
            if attempt:
                time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                return self._perform(entry)
            except Exception as error:
                if not is_unreachable(error):
                    raise
                failure = error
        self._keep(entry, failure)
        return None

    def _keep(self, entry: Entry, failure: Exception | None) -> None:
        with self._lock:
            self._next_probe = time.monotonic() + _PROBE_EVERY_S
            self._spool.append(entry)
            reason = self._guard.text(str(failure)).splitlines()[0][:200] if str(failure) else type(failure).__name__
            log.warning("MLflow cannot be reached, requests wait in %s (%s)", self._spool.path, reason)

    def _drain(self) -> bool:
        """Send the spooled requests in order; whether all are sent."""
        while len(self._spool):
            entry, count = self._first_waiting()
            try:
                self._perform(entry, is_replay=True)
            except Exception as error:
                if is_unreachable(error):
                    self._next_probe = time.monotonic() + _PROBE_EVERY_S
                    return False
                log.warning("MLflow: a waiting %s was refused and is dropped: %s", entry["verb"], error)
            self._spool.drop(count)
        log.warning("MLflow answers again, all waiting requests were sent")
        return True

    def _first_waiting(self) -> tuple[Entry, int]:
        """What to send next, and how many entries that is: metrics of one run that follow each other are joined."""
        first = next(iter(self._spool))
        if first["verb"] != "log_lines":
            return first, 1
        kind = (first["verb"], first["run_id"])
        same = list(takewhile(lambda entry: (entry["verb"], entry.get("run_id")) == kind, self._spool))
        return {**first, "lines": [line for entry in same for line in entry["lines"]]}, len(same)

    def _perform(self, entry: Entry, is_replay: bool = False) -> str | None:
        arguments = {name: value for name, value in entry.items() if name != "verb"}
        for name in ("run_id", "parent_id"):
            if arguments.get(name):
                arguments[name] = self._real_id(arguments[name])
        if entry["verb"] in _UNTIMED:
            del arguments["timestamp"]
        if entry["verb"] == "register_models":
            arguments["versions"] = [
                {**one, "model_id": self._real_model_id(one["model_id"])} for one in arguments["versions"]
            ]
        if entry["verb"] == "log_path":
            arguments["path"] = Path(arguments["path"])
        if is_replay and "run_id" in arguments:
            # A crash while sending may have sent some of it before.
            self._runs.expect_repeats(arguments["run_id"])
        verb: Callable[..., str | None] = getattr(self._runs, entry["verb"])
        result = verb(**arguments)
        if entry["verb"] == "start_run" and result is not None:
            self._ids[_PENDING + entry["key"]] = result
        return result

    def _real_model_id(self, model_id: str) -> str:
        if not model_id.startswith(_PENDING):
            return model_id
        run_id, _, name = model_id.removeprefix(_PENDING).rpartition("/")
        found = self._runs.find_model(self._real_id(run_id), name)
        if found is None:
            raise DpnError(f"model '{name}' of run '{run_id}' was never logged")
        return found

    def _real_id(self, run_id: str) -> str:
        """The id behind a provisional one; another process may have started the run, so its key is looked up too."""
        if not run_id.startswith(_PENDING):
            return run_id
        if run_id not in self._ids:
            found = self._runs.find_run(run_id.removeprefix(_PENDING))
            if found is None:
                raise DpnError(f"run '{run_id}' was never started")
            self._ids[run_id] = found
        return self._ids[run_id]
