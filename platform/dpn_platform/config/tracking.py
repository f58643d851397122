"""`tracking:` of an experiment: which tracker, and where it keeps what it is told."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from dpn_platform.config.section import Section


class TrackingConfig(Section):
    """Where runs are recorded: `mlflow`, `jsonl` (a folder of JSON lines per run), or nowhere (`off`).

    MLflow's address comes from `uri`, else MLFLOW_TRACKING_URI, else the embedded services. JSON lines go to the folder
    `uri`, else to `tracking` in the runs' storage.
    """

    backend: Literal["mlflow", "jsonl", "off"] = "mlflow"
    experiment: str = "dpn"
    uri: str | None = None

    @field_validator("backend", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML reads a bare `off` as false

    @property
    def needs_mlflow_service(self) -> bool:
        """Whether an MLflow that nobody gave the address of has to be there."""
        return self.backend == "mlflow" and self.uri is None
