"""A study in the tracker: a parent run, a child run per trial, each once however often the study is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dpn_platform.config.load import fingerprint
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import POINT_ARTIFACT, Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.sweeps.trials import Trial, run_name, shown_params, trial_config
from dpn_platform.tracking import Status, Tracker
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run_folder import TrainingOutcome
from dpn_platform.training.tracked_run import TrackedRun


class StudyTracking:
    """The tracked runs of a study and its trials; keys are `study` and `study/trial`.

    Args:
        data_fingerprint: of the data set, for `provenance.json`.

    Attributes:
        run_id: of the parent run.
    """

    def __init__(self, tracker: Tracker, study: str, config: ExperimentConfig, data_fingerprint: str) -> None:
        self.tracker = tracker
        self.study = study
        self.config = config
        self._data_fingerprint = data_fingerprint
        self._trials: dict[str, TrackedRun] = {}
        self._parent = TrackedRun(tracker, config, study, kind="study", origin=self._origin(config))
        self.run_id = self._parent.run_id

    def open_trial(self, trial: Trial) -> str:
        """Start or continue the trial's run."""
        self._trials[trial.key] = self._tracked(trial, None)
        return self._trials[trial.key].run_id

    def url(self) -> str:
        """Address of the study for people; empty where the tracker keeps nothing."""
        return self._parent.url()

    def log_line(self, trial: Trial, line: Mapping[str, float]) -> None:
        """One metric line of the trial's training."""
        self._run_of(trial).log_line(line)

    def finish_trial(
        self, trial: Trial, outcome: TrainingOutcome | None, result: EvaluationResult, point: Point
    ) -> None:
        """Final metrics, the point and, of what was trained, checkpoint and routing over time; closes the run."""
        documents = {POINT_ARTIFACT: json.dumps(point.to_json(), indent=2)}
        run = self._run_of(trial)
        if outcome is None:
            run.finish_evaluation(result.metrics(), documents)
            return
        run.finish(
            outcome,
            model_params=shown_params(trial),
            result=result.metrics(),
            documents=documents,
            lines=read_metrics(outcome.run_uri),
        )

    def close_trial(self, trial: Trial, status: Status, reason: str, detail: str = "") -> None:
        """End the run of a trial without a result, saying why."""
        self._run_of(trial).end(status, f"{reason}\n\n{detail}".rstrip())

    def _run_of(self, trial: Trial) -> TrackedRun:
        if trial.key not in self._trials:
            assert trial.run_id is not None, f"trial {trial.key} was never opened"
            self._trials[trial.key] = self._tracked(trial, trial.run_id)
        return self._trials[trial.key]

    def _tracked(self, trial: Trial, run_id: str | None) -> TrackedRun:
        config = trial_config(self.config, trial)
        return TrackedRun(
            self.tracker,
            config,
            run_name(self.study, trial),
            kind="trial",
            key=f"{self.study}/{trial.key}",
            parent_id=self.run_id,
            tags={"dpn.study": self.study, "dpn.control": str(trial.is_control).lower()},
            origin=self._origin(config),
            run_id=run_id,
        )

    def _origin(self, config: ExperimentConfig) -> dict[str, object]:
        seeds = {"train": config.train.seed, "sweep": config.sweep.seed if config.sweep else None}
        prints = {"data_fingerprint": self._data_fingerprint, "config_fingerprint": fingerprint(config)}
        return {**prints, "seeds": seeds}
