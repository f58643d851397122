"""`open_tracker`: the tracker of a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dpn_platform.config.errors import DpnError
from dpn_platform.config.tracking import TrackingConfig
from dpn_platform.storage import join_uri
from dpn_platform.tracking.background import BackgroundTracker
from dpn_platform.tracking.off import OffTracker
from dpn_platform.tracking.tracker import Tracker

FOLDER = "tracking"


def open_tracker(
    config: TrackingConfig, runs_uri: str | None = None, environment: Mapping[str, str] | None = None
) -> Tracker:
    """The tracker of a configuration.

    Args:
        config: `backend` says which. For `mlflow`, `uri` is its address and wins over `MLFLOW_TRACKING_URI`; for
            `jsonl` it is a folder.
        runs_uri: storage of the runs; `jsonl` without a `uri` writes into its folder `tracking`.
        environment: default `os.environ`.

    Raises:
        DpnError: there is no address, or no folder.
    """
    if config.backend == "off":
        return OffTracker()
    if config.backend == "jsonl":
        if not (config.uri or runs_uri):
            raise DpnError("tracking.uri: the backend jsonl needs a folder to write to where no run has a storage")
        from dpn_platform.tracking.jsonl import JsonlTracker

        return BackgroundTracker(JsonlTracker(config.experiment, config.uri or join_uri(str(runs_uri), FOLDER)))
    uri = config.uri or (os.environ if environment is None else environment).get("MLFLOW_TRACKING_URI")
    if not uri:
        raise DpnError(
            "no MLflow address: set tracking.uri or MLFLOW_TRACKING_URI, start the embedded services with `dpn up`, "
            "or do without: tracking.backend=jsonl or off"
        )
    from dpn_platform.tracking.mlflow_tracker import MlflowTracker

    return BackgroundTracker(MlflowTracker(config.experiment, uri))
