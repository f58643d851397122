"""OffTracker: tracking that is switched off. It records nothing and sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpn_platform.tracking.records import DataInput, Version, View
from dpn_platform.tracking.tracker import Status


class OffTracker:
    """The Tracker that keeps nothing; a run's id is its key."""

    def start_run(
        self,
        name: str,
        *,
        key: str,
        parent_id: str | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """The key."""
        return key

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Nothing."""

    def log_artifact(self, run_id: str, path_or_text: Path | str, name: str) -> None:
        """Nothing."""

    def log_model(
        self,
        run_id: str,
        name: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> str:
        """An id made of the run's and the name."""
        return f"{run_id}/{name}"

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """Nothing."""

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """Nothing."""

    def register_models(
        self,
        run_id: str,
        name: str,
        versions: Sequence[Version],
        *,
        description: str = "",
        aliases: Mapping[str, str | None] | None = None,
    ) -> None:
        """Nothing."""

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Nothing."""

    def show(self, view: View) -> str:
        """Empty."""
        return ""

    def end_run(self, run_id: str, status: Status = "FINISHED") -> None:
        """Nothing."""

    def experiment_url(self) -> str:
        """Empty."""
        return ""

    def run_url(self, run_id: str) -> str:
        """Empty."""
        return ""
