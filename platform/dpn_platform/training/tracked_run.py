"""A training run in the tracker, alone or as a study's trial: settings and origin, metric lines, results, its end.

A study's own run is one as well: it has settings, an origin and an end, and no lines. Imports no torch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dpn_platform.config.load import dump_config, flatten
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.tracking import DataInput, Status, Tracker
from dpn_platform.tracking.tracker import COMMIT_TAG, SOURCE_TAG
from dpn_platform.training.metric_lines import tracked_metrics
from dpn_platform.training.routing_history import ROUTING, routing_history
from dpn_platform.training.run_folder import TrainingOutcome

ROUTING_EVERY_S = 120.0
REASON = "reason.txt"
LOSS, BEST_LOSS = "train/loss_lm", "best/loss_lm"

Drawing = Callable[[dict[str, Any], str], str]


class TrackedRun:
    """Opened when its `run_id` is first asked for, which the first line and every end do; `close` opens nothing.

    A name that belongs to another configuration is refused by the training before that, and the tracked run of that
    name stays as it was.

    Args:
        tracker: where it goes.
        config: of the run.
        name: what people see.
        kind: "run", "study" or "trial", the tag `dpn.kind`.
        key: its identity in the tracker; default the name.
        parent_id: of the run it belongs to.
        tags: besides the kind.
        origin: what `provenance.json` says besides the versions.
        data: what it reads.
        draw: routing history and title to an SVG, kept as `routing.svg` in the end; default: none is drawn.
        on_open: told the run's address, empty where the tracker keeps nothing.
        run_id: of a run that is open already.
        clock: seconds.
    """

    def __init__(
        self,
        tracker: Tracker,
        config: ExperimentConfig,
        name: str,
        *,
        kind: str = "run",
        key: str | None = None,
        parent_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        origin: Mapping[str, Any] | None = None,
        data: Sequence[DataInput] = (),
        draw: Drawing | None = None,
        on_open: Callable[[str], None] = lambda url: None,
        run_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracker, self._config, self._name = tracker, config, name
        self._key, self._parent_id = key or name, parent_id
        self._tags = {"dpn.kind": kind, **(tags or {})}
        self._origin, self._data = origin or {}, data
        self._draw, self._on_open = draw, on_open
        self._clock = clock
        self._lines: list[Mapping[str, float]] = []
        self._routing_at = clock()
        if run_id is not None:
            self.run_id = run_id

    @cached_property
    def run_id(self) -> str:
        """Of the run, which is opened where it is not yet."""
        params = dict(flatten(self._config))
        origin = {**self._origin, **manifest_of_versions()}
        opened = self._tracker.start_run(
            self._name, key=self._key, parent_id=self._parent_id, params=params, tags={**self._tags, **_source(origin)}
        )
        self._tracker.log_artifact(opened, dump_config(self._config), "config.yaml")
        self._tracker.log_artifact(opened, json.dumps(origin, indent=2), "provenance.json")
        if self._data:
            self._tracker.log_data(opened, self._data)
        self._on_open(self._tracker.run_url(opened))
        return opened

    def url(self) -> str:
        """Address for people; empty where the tracker keeps nothing."""
        return self._tracker.run_url(self.run_id)

    def log_line(self, line: Mapping[str, float]) -> None:
        """One metric line; now and then the routing so far."""
        self._lines.append(line)
        self._tracker.log_metrics(self.run_id, tracked_metrics(line), int(line["step"]))
        if self._clock() - self._routing_at >= ROUTING_EVERY_S:
            self._log_routing(self._lines)

    def finish(
        self,
        outcome: TrainingOutcome,
        *,
        model_params: Mapping[str, Any],
        result: Mapping[str, float] | None = None,
        documents: Mapping[str, str] | None = None,
        lines: Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        """The export as a model, the routing of the whole run; ends the tracked run.

        Args:
            outcome: of the training.
            model_params: what the model's page names it by.
            result: metrics of its evaluation, logged as well; default: the model has those of the training.
            documents: further texts by name.
            lines: all metric lines; default those that were logged.
        """
        lines = self._lines if lines is None else lines
        losses = [line[LOSS] for line in lines if math.isfinite(line.get(LOSS, math.nan))]
        best = {BEST_LOSS: min(losses)} if losses else {}  # a table of runs shows each metric's last value
        self._tracker.log_metrics(self.run_id, {**(result or {}), **best}, outcome.steps)
        metrics = tracked_metrics(outcome.metrics) if result is None else result
        self._tracker.log_model(
            self.run_id, self._name, outcome.export_uri, params=model_params, metrics=metrics, step=outcome.steps
        )
        for name, text in (documents or {}).items():
            self._tracker.log_artifact(self.run_id, text, name)
        self._log_routing(lines, with_picture=True)
        self.end("FINISHED" if outcome.status == "finished" else "KILLED", outcome.stop_reason)

    def finish_evaluation(self, result: Mapping[str, float], documents: Mapping[str, str]) -> None:
        """Of a run that trained nothing: the metrics of its evaluation and further texts; ends the tracked run."""
        self._tracker.log_metrics(self.run_id, result, 0)
        for name, text in documents.items():
            self._tracker.log_artifact(self.run_id, text, name)
        self.end("FINISHED")

    def end(self, status: Status, reason: str | None = None) -> None:
        """Ends the tracked run, saying why where there is something to say."""
        if reason is not None:
            self._tracker.log_artifact(self.run_id, reason + "\n", REASON)
        self._tracker.end_run(self.run_id, status)

    def close(self, status: Status) -> None:
        """Ends the tracked run without a result, if a line was ever logged."""
        if self._lines:
            self._log_routing(self._lines)
            self.end(status)

    def _log_routing(self, lines: Sequence[Mapping[str, float]], *, with_picture: bool = False) -> None:
        self._routing_at = self._clock()
        history = routing_history(lines)
        if history is None:
            return
        self._tracker.log_artifact(self.run_id, json.dumps(history), ROUTING)
        if with_picture and self._draw is not None:
            # As text, which waits with the rest where the server is away; a file would have to be kept for that.
            self._tracker.log_artifact(self.run_id, self._draw(history, self._name), "routing.svg")


def data_inputs(manifest: Manifest, *splits: tuple[str, Literal["training", "evaluation"]]) -> list[DataInput]:
    """Splits of a data set and what they are for, as a run names its data; those that it has."""
    return [
        DataInput(f"{manifest.name}/{name}", manifest.fingerprint, manifest.root, manifest.split(name).rows, context)
        for name, context in splits
        if name in manifest.splits
    ]


def _source(origin: Mapping[str, Any]) -> dict[str, str]:
    """The command, without the folder of its program, and the commit of the code."""
    program, _, rest = str(origin["command"]).partition(" ")
    git = origin["git"]
    return {SOURCE_TAG: f"{Path(program).name} {rest}".strip()} | ({COMMIT_TAG: git["sha"]} if git else {})
