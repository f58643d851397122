"""A training run in the tracker: settings and origin, metric lines, routing over time, the exported model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from dpn_platform.cli.console import note
from dpn_platform.config.load import dump_config, flatten
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.tracking import Status, Tracker
    from dpn_platform.training.run_folder import TrainingOutcome

ROUTING_EVERY_S = 120.0


class TrackedRun:
    """Opened by the first line or the end.

    A name that belongs to another configuration is refused before that, and the tracked run of that name stays as it
    was.

    Args:
        tracker: where it goes.
        config: of the run.
        run_name: its identity.
        clock: seconds.
    """

    def __init__(
        self, tracker: Tracker, config: ExperimentConfig, run_name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker = tracker
        self._config = config
        self._run_name = run_name
        self._clock = clock
        self._lines: list[dict[str, float]] = []
        self._routing_at = clock()

    @cached_property
    def run_id(self) -> str:
        """Of the run, which is opened where it is not yet."""
        params = dict(flatten(self._config))
        opened = self._tracker.start_run(self._run_name, key=self._run_name, params=params, tags={"dpn.kind": "run"})
        self._tracker.log_artifact(opened, dump_config(self._config), "config.yaml")
        self._tracker.log_artifact(opened, json.dumps(manifest_of_versions(), indent=2), "provenance.json")
        note(f"run {self._run_name}: {self._tracker.run_url(opened)}")
        return opened

    def log_line(self, line: dict[str, float]) -> None:
        """One metric line; now and then the routing so far."""
        from dpn_platform.training.metric_lines import tracked_metrics

        self._lines.append(line)
        self._tracker.log_metrics(self.run_id, tracked_metrics(line), int(line["step"]))
        if self._clock() - self._routing_at >= ROUTING_EVERY_S:
            self._log_routing()

    def finish(self, outcome: TrainingOutcome) -> None:
        """The routing of the whole run, the export as a model; ends the tracked run."""
        from dpn_platform.training.metric_lines import tracked_metrics

        self._log_routing(with_picture=True)
        method = {key: value for key, value in flatten(self._config) if key.startswith("method.")}
        metrics = tracked_metrics(outcome.metrics)
        self._tracker.log_model(
            self.run_id, self._run_name, outcome.export_uri, params=method, metrics=metrics, step=outcome.steps
        )
        if outcome.stop_reason is not None:
            self._tracker.log_artifact(self.run_id, outcome.stop_reason + "\n", "reason.txt")
        self._tracker.end_run(self.run_id, "FINISHED" if outcome.status == "finished" else "KILLED")

    def close(self, status: Status) -> None:
        """Ends the tracked run without a result, if it was ever opened."""
        if self._lines:
            self._log_routing()
            self._tracker.end_run(self.run_id, status)

    def _log_routing(self, *, with_picture: bool = False) -> None:
        from dpn_platform.training.routing_history import ROUTING, routing_history

        self._routing_at = self._clock()
        history = routing_history(self._lines)
        if history is None:
            return
        self._tracker.log_artifact(self.run_id, json.dumps(history), ROUTING)
        if with_picture:
            from dpn_platform.reports.routing.over_time import routing_history_svg

            # As text, which waits with the rest where the server is away; a file would have to be kept for that.
            self._tracker.log_artifact(self.run_id, routing_history_svg(history, self._run_name), "routing.svg")
