"""How requests reach MLflow: a server that is away for a while never stops the work.

A few quick attempts, then requests are spooled to disk and sent, in order, when it answers again.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.guard import Guard
from dpn_platform.tracking.mlflow_models import MlflowModels
from dpn_platform.tracking.spool import Entry, Spool

log = logging.getLogger(__name__)

ATTEMPTS = 3
#: how a provisional id begins, of what the server has not heard of yet
PENDING = "pending:"
_FIRST_PAUSE_S = 0.5
_PROBE_EVERY_S = 10.0  # while the server is away, one attempt this often; everything between is spooled at once
#: verbs that need not be told when they were asked for
_UNTIMED = ("log_text", "log_path", "log_lines", "describe", "log_data", "register_models", "set_alias")
_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED", "ABORTED"}


def is_unreachable(error: BaseException) -> bool:
    """Whether a request failed because the server is away or overloaded, not because the request is wrong."""
    if isinstance(error, RequestException | ConnectionError | TimeoutError):
        return True
    return isinstance(error, MlflowException) and error.error_code in _TRANSIENT


class MlflowDelivery:
    """Sends entries (a verb of `MlflowModels` and its arguments), or keeps them until they can be sent."""

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

    def _ui(self) -> str:
        return re.sub(r"(?<=://)[^/@]+@", "", self._uri).rstrip("/")

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
            self._ids[PENDING + entry["key"]] = result
        return result

    def _real_model_id(self, model_id: str) -> str:
        if not model_id.startswith(PENDING):
            return model_id
        run_id, _, name = model_id.removeprefix(PENDING).rpartition("/")
        found = self._runs.find_model(self._real_id(run_id), name)
        if found is None:
            raise DpnError(f"model '{name}' of run '{run_id}' was never logged")
        return found

    def _real_id(self, run_id: str) -> str:
        """The id behind a provisional one; another process may have started the run, so its key is looked up too."""
        if not run_id.startswith(PENDING):
            return run_id
        if run_id not in self._ids:
            found = self._runs.find_run(run_id.removeprefix(PENDING))
            if found is None:
                raise DpnError(f"run '{run_id}' was never started")
            self._ids[run_id] = found
        return self._ids[run_id]
