"""Keeps the books of a running study: every change of a trial goes to the ledger, the tracker and the watcher."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO
from dpn_platform.config.redact import without_credentials
from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import read_result
from dpn_platform.evaluation.trial_points import point_of_result
from dpn_platform.storage import write_bytes
from dpn_platform.sweeps.events import Kind, OnEvent, StopSign, StudyEvent
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.limits import Spending
from dpn_platform.sweeps.measures import is_feasible
from dpn_platform.sweeps.rungs import rungs_of
from dpn_platform.sweeps.search import STOPPED, VALUES
from dpn_platform.sweeps.tracking import StudyTracking
from dpn_platform.sweeps.trials import REFERENCE, Trial, trained_run
from dpn_platform.training.metric_lines import read_metrics
from dpn_platform.training.run_folder import TrainingOutcome

FOLLOW_EVERY_S = 2.0
#: at most so much of a trial's time is forgotten when its driver is killed
NOTE_HOURS_EVERY_S = 30.0


class StudyBook:
    """One writer for everything that is known of a study while it runs.

    A thread follows the metric lines of running trials; everything else is called from the driver's loop.
    """

    def __init__(
        self,
        ledger: Ledger,
        tracking: StudyTracking,
        num_trials: int,
        stop: StopSign,
        on_event: OnEvent,
        note_result: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self.ledger = ledger
        self.tracking = tracking
        # What a killed driver left as running runs no more.
        self.trials = {
            trial.key: trial.become("waiting") if trial.state == "running" else trial
            for trial in ledger.trials().values()
        }
        self.stop = stop
        self.spending: Spending | None = None
        self._note_result = note_result
        self._began: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._num_trials = num_trials
        self._on_event = on_event
        self._last_step: dict[str, int] = {}
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="study-follower", daemon=True)

    def __enter__(self) -> StudyBook:
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._ended.set()
        self._thread.join()

    def started(self, key: str) -> None:
        """A trial's process runs (again)."""
        with self._lock:
            trial = self.ledger.trial(key)
            run_id = self.tracking.open_trial(trial)
            trial = self._set(trial.become("running", reason=None, run_id=run_id))
            self._last_step[key] = 0
            self._began.setdefault(key, time.monotonic())  # also of a process that was lost
            self._tell("started", f"{key} started", trial)

    def reported(self, key: str, report: Mapping[str, Any]) -> None:
        """A trial has ended with what it reported."""
        with self._lock:
            trial = self.trials[key]
            if "error" in report:
                is_fault = bool(report.get("is_fault"))
                self.failed(key, str(report["error"]), str(report.get("traceback", "")), is_fault=is_fault)
                return
            outcome = TrainingOutcome(**report["outcome"]) if "outcome" in report else None
            self._log_new_lines(trial)
            if STOPPED in report:
                self._stopped(trial, outcome, str(report[STOPPED]), dict(report.get(VALUES, {})))
                return
            self._finished(trial, outcome, str(report["evaluation_uri"]), report)

    def failed(self, key: str, reason: str, detail: str = "", *, is_fault: bool = False) -> None:
        """A trial cannot go on. Nor can the study without the reference, or where the next trial would fail alike.

        Args:
            key: of the trial.
            reason: one line.
            detail: the whole trace.
            is_fault: of the code or its environment, not of the trial.
        """
        with self._lock:
            ended = [trial for trial in self.trials.values() if trial.state in ("finished", "stopped", "failed")]
            is_common = bool(ended) and all(trial.reason == reason for trial in ended)
            trial = self.trials[key].become("failed", reason=reason)
            self.tracking.close_trial(trial, "FAILED", reason, detail)
            self._set(trial)
            self._tell("failed", f"{key} failed: {reason}", trial)
            if key == REFERENCE:
                self.stop.reason = f"the control '{REFERENCE}' failed: {reason}"
            elif is_fault or is_common:
                self.stop.reason = f"trial {key} failed as every other would: {reason}"
            if self.stop.reason is not None and detail:
                trace_uri = f"{self.ledger.uri}/traces/{key}.txt"
                write_bytes(trace_uri, without_credentials(detail).encode())
                self.stop.reason += f"; the whole trace: {trace_uri}"

    def put_back(self) -> bool:
        """The driver's loop has ended: trials that were still running wait for a resume. Whether there were any."""
        with self._lock:
            running = [trial for trial in self.trials.values() if trial.state == "running"]
            if not self.stop.is_taken_over:
                for trial in running:
                    self.tracking.close_trial(trial, "KILLED", "interrupted; a resume continues it")
                    self._set(trial.become("waiting"))
            return bool(running)

    def point(self, trial: Trial) -> tuple[Point, EvaluationResult]:
        """A finished trial's point, and the evaluation behind it."""
        result = read_result(str(trial.evaluation_uri))
        if result is None:
            raise DpnError(f"trial {trial.key}: its evaluation {trial.evaluation_uri} is missing")
        assert self.tracking.config.sweep is not None
        constraints, dense = self.tracking.config.sweep.constraints, self.trials.get(REFERENCE)
        is_kept = is_feasible(trial.values, constraints, {} if dense is None else dense.values)
        return point_of_result(vars(trial), result).model_copy(update={"is_feasible": is_kept}), result

    def settled_points(self) -> list[tuple[Point, EvaluationResult]]:
        """Of every finished trial, as it stands at the end: one that ended before dense was judged by nothing."""
        found = []
        for trial in self.ledger.trials().values():
            if trial.state == "finished":
                point, result = self.point(trial)
                if trial.point != (plain := point.to_json()):
                    self.ledger.put(replace(trial, point=plain))
                found.append((point, result))
        return found

    @property
    def hours_of_running(self) -> float:
        """Device-hours that the present attempts have taken so far."""
        return sum(map(self._attempt_hours, list(self._began)))

    def _attempt_hours(self, key: str) -> float:
        began = self._began.get(key)
        return 0.0 if began is None else self._devices * (time.monotonic() - began) / 3600

    @property
    def _devices(self) -> int:
        config = self.tracking.config
        return max(config.train.num_workers, config.eval.num_actors)

    def _finished(
        self, trial: Trial, outcome: TrainingOutcome | None, evaluation_uri: str, report: Mapping[str, Any]
    ) -> None:
        values = {**report.get(VALUES, {}), **{name: float(report[name]) for name in (ACCURACY, FLOPS_RATIO)}}
        resumed_from = 0 if outcome is None else outcome.resumed_from
        trial = trial.become("finished", values=values, evaluation_uri=evaluation_uri, resumed_from=resumed_from)
        point, result = self.point(trial)
        self.tracking.finish_trial(trial, outcome, result, point)
        # After the tracker: a driver killed in between does both again, and nothing twice.
        self._set(replace(trial, point=point.to_json(), rungs=self._rungs(trial)))
        self._note_result(trial)
        summary = f"accuracy {100 * point.accuracy:.1f}%, FLOPs ratio {values[FLOPS_RATIO]:.3f}"
        whence = f", as {trial.reused_from} did" if trial.is_taken_over else ""
        self._tell("finished", f"{trial.key}: {summary}{whence}", trial)

    def _stopped(self, trial: Trial, outcome: TrainingOutcome | None, reason: str, values: dict[str, float]) -> None:
        resumed_from = 0 if outcome is None else outcome.resumed_from
        trial = trial.become("stopped", reason=reason, resumed_from=resumed_from, values=values)
        self.tracking.close_trial(trial, "KILLED", reason)
        self._set(replace(trial, rungs=self._rungs(trial)))
        self._tell("stopped", f"{trial.key} stopped early: {reason}", trial)

    def _rungs(self, trial: Trial) -> dict[str, dict[str, float]]:
        """What its training measured for others to be judged by."""
        config = self.tracking.config
        assert config.sweep is not None
        if trial.on is not None or not config.sweep.early_stopping.steps_of_rungs(config.train):
            return {}
        return rungs_of(read_metrics(f"{self.ledger.runs_uri}/{trained_run(self.ledger.study, trial)}"))

    def _set(self, trial: Trial) -> Trial:
        if trial.state != "running":
            hours = round(trial.device_hours + self._attempt_hours(trial.key), 6)
            trial = replace(trial, device_hours=hours)
            self._began.pop(trial.key, None)
        self.trials[trial.key] = trial
        self.ledger.put(trial)
        return trial

    def _follow(self) -> None:
        while not self._ended.wait(FOLLOW_EVERY_S):
            for trial in list(self.trials.values()):
                if trial.state == "running":
                    self._look_at(trial.key)

    def _look_at(self, key: str) -> None:
        with self._lock:
            trial = self.trials[key]
            if trial.state != "running":
                return
            try:
                self._log_new_lines(trial)
                self._note_hours(trial)
            except DpnError:
                return  # storage is away for a moment; the lines stay there

    def _note_hours(self, trial: Trial) -> None:
        """What a running trial has taken so far, into the ledger alone: what another driver goes on from."""
        now = time.monotonic()
        if now - self._noted.get(trial.key, self._began.get(trial.key, now)) >= NOTE_HOURS_EVERY_S:
            self._noted[trial.key] = now
            self.ledger.put(replace(trial, device_hours=trial.device_hours + self._attempt_hours(trial.key)))

    def _log_new_lines(self, trial: Trial) -> None:
        run_uri = f"{self.ledger.runs_uri}/{trained_run(self.ledger.study, trial)}"
        for line in read_metrics(run_uri):
            step = int(line["step"])
            if step > self._last_step.get(trial.key, 0):
                self._last_step[trial.key] = step
                self.tracking.log_line(trial, line)
                loss = line.get("train/loss_lm")
                num_steps = self.tracking.config.train.steps
                self._tell("progress", f"{trial.key} step {step} of {num_steps}", trial, step, num_steps, loss)

    def _tell(
        self, kind: Kind, message: str, trial: Trial, step: int = 0, num_steps: int = 0, loss: float | None = None
    ) -> None:
        done = sum(one.is_settled for one in self.trials.values())
        spent = "" if self.spending is None or not self.spending.is_limited else self.spending.line()
        self._on_event(StudyEvent(kind, message, trial.key, step, num_steps, loss, done, self._num_trials, spent))
