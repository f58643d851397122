"""BackgroundTracker: metrics are sent by a thread of their own, so that neither work nor progress waits for a server.

Lines that gather while a request is under way go together in the next one. The other verbs first wait until the metrics
before them are sent or spooled, and so does the end of the process: a run's requests keep their order.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.tracker import MetricLine, Status, Tracker, metric_line

log = logging.getLogger(__name__)


class LineTracker(Tracker, Protocol):
    """A tracker that takes many metric lines in one request."""

    def log_lines(self, run_id: str, lines: list[MetricLine]) -> None:
        """Log the metrics of several steps at once."""
        ...


class BackgroundTracker:
    """The Tracker over one that takes lines; what is in its way is in the way of the thread only."""

    def __init__(self, tracker: LineTracker) -> None:
        self._tracker = tracker
        self._waiting: list[tuple[str, MetricLine]] = []
        self._is_sending = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

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
        self.flush()
        return self._tracker.start_run(name, key=key, parent_id=parent_id, params=params, tags=tags)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """See `Tracker.log_metrics`; returns at once. What is refused is dropped with a warning."""
        if not metrics:
            return
        with self._changed:
            self._waiting.append((run_id, metric_line(metrics, step)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_forever, name="tracking", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
            self._changed.notify_all()

    def log_artifact(self, run_id: str, path_or_text: Path | str, name: str) -> None:
        """See `Tracker.log_artifact`."""
        self.flush()
        self._tracker.log_artifact(run_id, path_or_text, name)

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
        self.flush()
        return self._tracker.log_model(run_id, name, uri, params, metrics, step)

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """See `Tracker.describe`. What is refused, of a run that somebody deleted, is dropped with a warning."""
        self.flush()
        try:
            self._tracker.describe(run_id, note=note, tags=tags)
        except Exception as error:  # words about a result never end the work that made it
            log.warning("the tracker refused the description of run %s: %s", run_id, error)

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """See `Tracker.log_data`."""
        self.flush()
        self._tracker.log_data(run_id, data)

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
        self.flush()
        self._tracker.register_models(run_id, name, versions, description=description, aliases=aliases)

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """See `Tracker.set_alias`."""
        self.flush()
        self._tracker.set_alias(name, alias, version)

    def show(self, view: View) -> str:
        """See `Tracker.show`."""
        self.flush()
        return self._tracker.show(view)

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """See `Tracker.end_run`."""
        self.flush()
        self._tracker.end_run(run_id, status)

    def experiment_url(self) -> str:
        """See `Tracker.experiment_url`."""
        return self._tracker.experiment_url()

    def run_url(self, run_id: str) -> str:
        """See `Tracker.run_url`."""
        return self._tracker.run_url(run_id)

    def flush(self) -> None:
        """Returns when every metric logged before is sent, spooled, or refused."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_sending)

    def _send_forever(self) -> None:
        while True:
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                taken, self._waiting, self._is_sending = self._waiting, [], True
            for run_id in dict.fromkeys(run_id for run_id, _ in taken):
                self._send(run_id, [line for owner, line in taken if owner == run_id])

    def _send(self, run_id: str, lines: list[MetricLine]) -> None:
        try:
            self._tracker.log_lines(run_id, lines)
        except Exception as error:  # a thread has nobody to tell; the next verb of this run meets the same refusal
            log.warning("the tracker refused %d metric lines of run %s: %s", len(lines), run_id, error)
