"""MlflowTracker: MLflow behind the ten verbs, patient (`mlflow_delivery`) and discreet.

Credentials are taken out before anything is sent or spooled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.guard import clip
from dpn_platform.tracking.mlflow_delivery import PENDING, MlflowDelivery, is_unreachable
from dpn_platform.tracking.mlflow_models import model_name
from dpn_platform.tracking.mlflow_views import view_address
from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.spool import Entry
from dpn_platform.tracking.tracker import TAG_LIMIT, MetricLine, Status, checked_alias, metric_line, now_ms

_PARAM_LIMIT = 6000


class MlflowTracker(MlflowDelivery):
    """The Tracker over an MLflow server (or a `sqlite:` address, for tests)."""

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
        return str(self._send(entry) or PENDING + key)

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
        return str(self._send(entry) or f"{PENDING}{run_id}/{model_name(name)}")

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
        return self.experiment_url() + ("" if real.startswith(PENDING) else f"/runs/{real}")

    @staticmethod
    def _entry(verb: str, **arguments: Any) -> Entry:
        return {"verb": verb, "timestamp": now_ms(), **arguments}
