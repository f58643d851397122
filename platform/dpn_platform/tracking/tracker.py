"""The Tracker protocol: what the platform asks of an experiment tracker."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypedDict, runtime_checkable

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.records import DataInput, Version, View

KEY_TAG = "dpn.key"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
COLOUR_TAG = "mlflow.runColor"
SOURCE_TAG, COMMIT_TAG = "mlflow.source.name", "mlflow.source.git.commit"
#: of a model's version: its name, and whether the latest call named it
VERSION_TAG, CURRENT_TAG = "dpn.point", "dpn.on_front"
#: characters of a tag; what is longer is clipped
TAG_LIMIT = 5000

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


def checked_alias(alias: str) -> str:
    """The alias, if every tracker takes it.

    Raises:
        DpnError: it holds other characters than letters, digits, _ and -.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", alias):
        raise DpnError(f"alias '{alias}' of a registered model: letters, digits, _ and - are allowed")
    return alias


def no_such_version(name: str, version: str, known: Iterable[str]) -> DpnError:
    """What `Tracker.set_alias` raises where the version is not there."""
    return DpnError(
        f"registered model '{name}' has no version '{version}'; it has: {', '.join(sorted(known)) or 'none'}"
    )


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@runtime_checkable
class Tracker(Protocol):
    """Ten verbs. All are safe to repeat: doing the same work again after a resume leaves nothing twice.

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

    def describe(self, run_id: str, *, note: str | None = None, tags: Mapping[str, str] | None = None) -> None:
        """Renew what a run says of itself, also after its end.

        Args:
            run_id: of the run.
            note: markdown that its page begins with; a picture is named by its artifact. None: as it was.
            tags: replaced one by one; others stay.
        """
        ...

    def log_data(self, run_id: str, data: Sequence[DataInput]) -> None:
        """Say what data the run used."""
        ...

    def register_models(
        self,
        run_id: str,
        name: str,
        versions: Sequence[Version],
        *,
        description: str = "",
        aliases: Mapping[str, str | None] | None = None,
    ) -> None:
        """Keep models as versions of the registered model `name`, and as results of a run.

        Args:
            run_id: of the run whose results they are.
            name: of the registered model, made when missing. One of another experiment is left alone, with a warning.
            versions: those of an earlier call that are not among them stay, and are no longer tagged as current.
            description: of the registered model.
            aliases: alias -> name of its version; None takes the alias away. Others stay.
        """
        ...

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Let an alias of a registered model stand for the version of that name alone; None takes it away.

        Raises:
            DpnError: no such registered model or version, or no name for an alias.
        """
        ...

    def show(self, view: View) -> str:
        """Keep a view of the experiment's runs.

        Returns:
            Its address for people; empty where there is none.
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
