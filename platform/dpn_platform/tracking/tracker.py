"""The Tracker protocol: what the platform asks of an experiment tracker."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, TypedDict, runtime_checkable

KEY_TAG = "dpn.key"
PARENT_TAG = "mlflow.parentRunId"

Status = Literal["FINISHED", "FAILED", "KILLED"]


class MetricLine(TypedDict):
    """Metrics of one step and when they were logged, in milliseconds since 1970."""

    step: int
    timestamp: int
    metrics: dict[str, float]


def metric_line(metrics: Mapping[str, float], step: int) -> MetricLine:
    """Metrics of one step, logged now."""
    plain = {key: float(value) for key, value in metrics.items()}
    return {"step": int(step), "timestamp": now_ms(), "metrics": plain}


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@runtime_checkable
class Tracker(Protocol):
    """Five verbs. All are safe to repeat: doing the same work again after a resume leaves nothing twice.

    No verb depends on an "active run", so any number of runs may be open at once and from several threads.
    """

    def start_run(
        self,
        name: str,
        *,
        key: str,
        parent_id: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Open the run with this key: the one that exists is continued, otherwise one is made.

        Args:
            name: what people see.
            key: identity of the work (for example `study/trial`), unique in the experiment.
            parent_id: id of the run this one belongs to.
            params: settings, never changed once logged; long values are clipped.
            tags: replaced when logged again.

        Returns:
            The run's id.
        """
        ...

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log several metrics of one step; may return before they are sent."""
        ...

    def log_artifact(self, run_id: str, path_or_text: Path | str, name: str) -> None:
        """Keep a file, a folder (both as `Path`) or a text (`str`) under `name`; replaces what was there."""
        ...

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> str:
        """Register a checkpoint that lies at `uri` as a model of the run, with its metrics at `step`; one per name.

        Returns:
            The model's id.
        """
        ...

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """Close the run; what was logged before is sent, or kept on disk, when this returns."""
        ...

    def experiment_url(self) -> str:
        """Address of the experiment for people; empty where nothing is kept."""
        ...

    def run_url(self, run_id: str) -> str:
        """Address of one run for people; empty where nothing is kept."""
        ...
