"""The Tracker protocol: what the platform asks of an experiment tracker, and how to open the configured one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import TrackingConfig

KEY_TAG = "dpn.key"
PARENT_TAG = "mlflow.parentRunId"

Status = Literal["FINISHED", "FAILED", "KILLED"]


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
        """Address of the experiment for people."""
        ...

    def run_url(self, run_id: str) -> str:
        """Address of one run for people."""
        ...


def open_tracker(config: TrackingConfig, environment: Mapping[str, str] | None = None) -> Tracker:
    """The tracker of a configuration.

    Args:
        config: `uri` wins, then `MLFLOW_TRACKING_URI`.
        environment: default `os.environ`.

    Raises:
        DpnError: neither names an address.
    """
    uri = config.uri or (os.environ if environment is None else environment).get("MLFLOW_TRACKING_URI")
    if not uri:
        raise DpnError(
            "no MLflow address: set tracking.uri or MLFLOW_TRACKING_URI, or start the embedded services with `dpn up`"
        )
    from dpn_platform.tracking.background import BackgroundTracker
    from dpn_platform.tracking.mlflow_tracker import MlflowTracker

    return BackgroundTracker(MlflowTracker(config.experiment, uri))
