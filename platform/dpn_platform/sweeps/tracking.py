"""A study in the tracker: a parent run, a child run per trial, each once however often the study is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dpn_platform.config.load import dump_config, fingerprint, flatten
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import POINT_ARTIFACT, Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.sweeps.trials import Trial, run_name, shown_params, trial_config
from dpn_platform.tracking import Status, Tracker
from dpn_platform.training.metric_lines import read_metrics, tracked_metrics
from dpn_platform.training.routing_history import ROUTING, routing_history
from dpn_platform.training.run_folder import TrainingOutcome


class StudyTracking:
    """Logs a study through the five verbs; keys are `study` and `study/trial`.

    Args:
        data_fingerprint: of the data set, for the manifest.

    Attributes:
        run_id: of the parent run.
    """

    def __init__(self, tracker: Tracker, study: str, config: ExperimentConfig, data_fingerprint: str) -> None:
        self.tracker = tracker
        self.study = study
        self.config = config
        self.manifest = {"data_fingerprint": data_fingerprint, **manifest_of_versions()}
        self.run_id = tracker.start_run(study, key=study, params=dict(flatten(config)), tags={"dpn.kind": "study"})
        self._describe(self.run_id, config)

    def open_trial(self, trial: Trial) -> str:
        """Start or continue the trial's run."""
        config = trial_config(self.config, trial)
        tags = {"dpn.kind": "trial", "dpn.study": self.study, "dpn.control": str(trial.is_control).lower()}
        run_id = self.tracker.start_run(
            run_name(self.study, trial),
            key=f"{self.study}/{trial.key}",
            parent_id=self.run_id,
            params=dict(flatten(config)),
            tags=tags,
        )
        self._describe(run_id, config)
        return run_id

    def url(self) -> str:
        """Address of the study for people."""
        return self.tracker.run_url(self.run_id)

    def log_line(self, trial: Trial, line: Mapping[str, float]) -> None:
        """One metric line of the trial's training."""
        self.tracker.log_metrics(_run_of(trial), tracked_metrics(line), int(line["step"]))

    def finish_trial(self, trial: Trial, outcome: TrainingOutcome, result: EvaluationResult, point: Point) -> None:
        """Final metrics, the checkpoint as a model, the point, routing over time; closes the run."""
        run_id = _run_of(trial)
        self.tracker.log_metrics(run_id, result.metrics(), outcome.steps)
        self.tracker.log_model(
            run_id,
            run_name(self.study, trial),
            outcome.export_uri,
            params=shown_params(trial),
            metrics=result.metrics(),
            step=outcome.steps,
        )
        self.tracker.log_artifact(run_id, json.dumps(point.to_json(), indent=2), POINT_ARTIFACT)
        if (history := routing_history(read_metrics(outcome.run_uri))) is not None:
            self.tracker.log_artifact(run_id, json.dumps(history), ROUTING)
        self.tracker.end_run(run_id)

    def close_trial(self, trial: Trial, status: Status, reason: str, detail: str = "") -> None:
        """End the run of a trial without a result, saying why."""
        run_id = _run_of(trial)
        self.tracker.log_artifact(run_id, f"{reason}\n\n{detail}".rstrip() + "\n", "reason.txt")
        self.tracker.end_run(run_id, status)

    def _describe(self, run_id: str, config: ExperimentConfig) -> None:
        seeds: dict[str, Any] = {"train": config.train.seed, "sweep": config.sweep.seed if config.sweep else None}
        manifest = {**self.manifest, "config_fingerprint": fingerprint(config), "seeds": seeds}
        self.tracker.log_artifact(run_id, dump_config(config), "config.yaml")
        self.tracker.log_artifact(run_id, json.dumps(manifest, indent=2), "provenance.json")


def _run_of(trial: Trial) -> str:
    assert trial.run_id is not None, f"trial {trial.key} was never opened"
    return trial.run_id
