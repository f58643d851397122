"""MlflowExperiment: one experiment of one MLflow server, found or made, and the views that are kept of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.mlflow_views import tags_of_experiment
from dpn_platform.tracking.records import View


class MlflowExperiment:
    """One experiment of one MLflow server, through MlflowClient alone (no global active run)."""

    def __init__(self, experiment: str, uri: str) -> None:
        self.experiment = experiment
        self.client = MlflowClient(tracking_uri=uri)
        self._experiment_id: str | None = None

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

    def show(self, view: Mapping[str, Any], timestamp: int) -> None:
        """Keep a view of the runs; the fields of `records.View`."""
        present = self.client.get_experiment(self.experiment_id).tags
        for name, value in tags_of_experiment(View(**view), present, self.experiment_id, timestamp).items():
            self.client.set_experiment_tag(self.experiment_id, name, value)
