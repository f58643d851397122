"""Reads studies back from MLflow: the parent run by name, the texts it and its trials keep."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.tracker import PARENT_TAG

_PAGE = 1000


@dataclass(frozen=True)
class StudyRun:
    """A study's parent run."""

    run_id: str
    name: str
    experiment: str
    url: str


class StudyReader:
    """Finds studies on one MLflow server."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")
        self._client = MlflowClient(tracking_uri=uri)

    def find(self, name: str) -> StudyRun:
        """The latest study of this name, or the latest study of the experiment of this name.

        Raises:
            DpnError: there is none, or the server cannot be reached; says which studies there are.
        """
        try:
            experiments = {found.experiment_id: found.name for found in self._client.search_experiments()}
            runs = [run for run in self._parents(list(experiments)) if _is_meant(run, name, experiments)]
        except (MlflowException, RequestException) as error:
            raise DpnError(f"MLflow at {self._uri} cannot be read: {str(error).splitlines()[0][:160]}") from None
        if not runs:
            known = sorted({run.info.run_name for run in self._parents(list(experiments))})[:10]
            there_are = f"there are: {', '.join(known)}" if known else "there are none yet"
            raise DpnError(f"no study or experiment '{name}' in MLflow at {self._uri}; {there_are}")
        info = runs[0].info
        url = f"{self._uri}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
        return StudyRun(info.run_id, info.run_name, experiments[info.experiment_id], url)

    def child_ids(self, run_id: str) -> list[str]:
        """Ids of the runs that belong to a study, oldest first."""
        experiment = self._client.get_run(run_id).info.experiment_id
        filter_string = f"tags.`{PARENT_TAG}` = '{run_id}'"
        runs = self._client.search_runs([experiment], filter_string, max_results=_PAGE, order_by=["start_time ASC"])
        return [run.info.run_id for run in runs]

    def text(self, run_id: str, name: str) -> str | None:
        """A text artifact of a run; None when the run has none of this name."""
        folder = name.rpartition("/")[0] or None
        if name not in {item.path for item in self._client.list_artifacts(run_id, folder)}:
            return None
        with tempfile.TemporaryDirectory() as temporary:
            return Path(self._client.download_artifacts(run_id, name, temporary)).read_text(encoding="utf-8")

    def _parents(self, experiment_ids: list[str]) -> list[Run]:
        """Runs that belong to no other run, latest first."""
        runs = self._client.search_runs(experiment_ids, max_results=_PAGE, order_by=["start_time DESC"])
        return [run for run in runs if PARENT_TAG not in run.data.tags]


def _is_meant(run: Run, name: str, experiments: dict[str, str]) -> bool:
    return name in (run.info.run_name, run.info.run_id, experiments[run.info.experiment_id])
