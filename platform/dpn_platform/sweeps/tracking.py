"""A study in the tracker: a parent run, a child run per trial, each once however often the study is resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from dpn_platform.config.load import fingerprint
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.evaluation.points import POINT_ARTIFACT, Convention, Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.runner.data_set import asks_own_data
from dpn_platform.evaluation.standing import (
    STUDY_TAG,
    point_metrics,
    point_tags,
    ranks,
    standing_tags,
    view_of_studies,
    view_of_study,
)
from dpn_platform.sweeps.trials import Trial, run_name, shown_params, trial_config
from dpn_platform.tracking import DataInput, Status, Tracker
from dpn_platform.tracking.tracker import CURRENT_TAG
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run_folder import TrainingOutcome
from dpn_platform.training.tracked_run import TrackedRun, data_inputs


class StudyTracking:
    """The tracked runs of a study and its trials; keys are `study` and `study/trial`.

    Args:
        manifest: of the data set.
        points: of trials that finished before, in the ledger.

    Attributes:
        run_id: of the parent run.
    """

    def __init__(
        self,
        tracker: Tracker,
        study: str,
        config: ExperimentConfig,
        manifest: Manifest,
        points: Iterable[Point] = (),
    ) -> None:
        self.tracker = tracker
        self.study = study
        self.config = config
        self._manifest = manifest
        self._trials: dict[str, TrackedRun] = {}
        self._points = {point.name: point for point in points}
        self._told: dict[str, dict[str, str]] = {}
        self._parent = TrackedRun(
            tracker, config, study, kind="study", origin=self._origin(config), data=self._data(is_trained=True)
        )
        self.run_id = self._parent.run_id
        tracker.show(view_of_studies())
        tracker.show(view_of_study(study, self._convention))

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
        metrics = {**result.metrics(), **point_metrics(point, self._convention)}
        run = self._run_of(trial)
        if outcome is None:
            run.finish_evaluation(metrics, documents)
        else:
            run.finish(
                outcome,
                model_params=shown_params(trial),
                result=metrics,
                documents=documents,
                lines=read_metrics(outcome.run_uri),
            )
        self._points[point.name] = point
        self._tell_standing(point.name)

    def settle(self, points: Iterable[Point]) -> None:
        """At the end of a study: tells every point's run where it stands among them all."""
        self._points = {point.name: point for point in points}
        self._tell_standing(*self._points)

    def _tell_standing(self, *names: str) -> None:
        """Renews the tags of the named points' runs, and of those that came to the front or left it."""
        found = ranks(list(self._points.values()), self._convention)
        for name, point in self._points.items():
            tags = {**point_tags(point, self._convention), **standing_tags(found.get(name))}
            told = self._told.get(name, {})
            if point.run_id is None or tags == told:
                continue
            if name in names or tags[CURRENT_TAG] != told.get(CURRENT_TAG):
                self.tracker.describe(point.run_id, tags=tags)
                self._told[name] = tags

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
            tags={STUDY_TAG: self.study, "dpn.control": str(trial.is_control).lower()},
            origin=self._origin(config),
            data=self._data(is_trained=trial.on is None),
            run_id=run_id,
        )

    @property
    def _convention(self) -> Convention:
        assert self.config.sweep is not None
        return self.config.sweep.flops_convention

    def _data(self, *, is_trained: bool) -> list[DataInput]:
        is_asked = any(map(asks_own_data, self.config.eval.benchmarks))
        data = self.config.data
        trained = data_inputs(self._manifest, (data.train_split, "training")) if is_trained else []
        return trained + (data_inputs(self._manifest, (data.eval_split, "evaluation")) if is_asked else [])

    def _origin(self, config: ExperimentConfig) -> dict[str, object]:
        seeds = {"train": config.train.seed, "sweep": config.sweep.seed if config.sweep else None}
        prints = {"data_fingerprint": self._manifest.fingerprint, "config_fingerprint": fingerprint(config)}
        return {**prints, "seeds": seeds}
