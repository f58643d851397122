"""The main job: `run_study` runs a study's controls and searched trials, or continues where it was interrupted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import ray

from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import HELD_OUT
from dpn_platform.config.load import fingerprint
from dpn_platform.config.provenance import code_version, manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.evaluation.answering.variants import variants_of
from dpn_platform.evaluation.axis import axis_of
from dpn_platform.evaluation.points import Point
from dpn_platform.storage import ensure_bucket, open_uri
from dpn_platform.sweeps.book import StudyBook
from dpn_platform.sweeps.budgets import Settled, settled
from dpn_platform.sweeps.events import OnEvent, StopSign, StudyEvent
from dpn_platform.sweeps.lease import Holder, Lease
from dpn_platform.sweeps.ledger import NAME_PATTERN, Header, Ledger, is_among, latest_unfinished
from dpn_platform.sweeps.limits import Spending
from dpn_platform.sweeps.neighbours import comparable_proposals
from dpn_platform.sweeps.reuse import Reuse
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.tracking import StudyTracking
from dpn_platform.sweeps.trainable import Execute, build_trainable, train_and_evaluate
from dpn_platform.sweeps.trials import Trial, control_trials
from dpn_platform.sweeps.tuning import run_tuner, wait_until_gone
from dpn_platform.tracking import Status, Tracker, open_tracker


@dataclass(frozen=True)
class StudyResult:
    """A finished study.

    Attributes:
        run_id, mlflow_uri: of the parent run; the address is empty with another tracker.
        points: every evaluated trial, controls first.
        examples: point name -> samples for the gallery.
        stopped, failed: trial -> reason.
        ledger_uri: folder of the ledger.
        meta: what a report states beside the numbers.
    """

    study_name: str
    run_id: str
    mlflow_uri: str
    points: tuple[Point, ...]
    examples: dict[str, tuple[dict[str, Any], ...]] = field(repr=False)
    stopped: dict[str, str]
    failed: dict[str, str]
    ledger_uri: str
    meta: dict[str, Any] = field(repr=False)


def run_study(
    config: ExperimentConfig,
    *,
    study_name: str | None = None,
    resume: bool = False,
    extend: bool = False,
    on_event: OnEvent = lambda event: None,
    tracker: Tracker | None = None,
    execute: Execute = train_and_evaluate,
) -> StudyResult:
    """Run or continue a study. Ray must be initialised.

    A resume repeats no finished trial, continues interrupted ones from their last checkpoint, tries failed ones
    again, and returns the result of a finished study as it is.

    Args:
        config: an experiment with a `sweep` section.
        study_name: default: the config's name and the time; for a resume, the newest unfinished study of that name.
        resume: continue the study of that name.
        extend: add to the study of that name what `config` asks for beyond what it holds.
        on_event: told of everything that happens, partly from a thread.
        tracker: default: as `config.tracking` says.
        execute: what one trial is.

    Raises:
        DpnError: no sweep section, the study exists (or does not, to be resumed), it is run by another driver, its
            data set is missing, or its dense control failed.
        KeyboardInterrupt: interrupted; a resume continues.
    """
    if config.sweep is None:
        raise DpnError(f"config '{config.name}' has no section 'sweep'; add one, or train a single run")
    axis_of(config.eval)  # refused here, not by the first trial when it has been trained
    variants_of(config.eval)
    runs_uri = open_uri(config.storage.runs_uri).uri
    manifest = load_manifest(config.data.uri)
    controls = settled(config)
    ensure_bucket(runs_uri)
    ledger = Ledger(runs_uri, _study_name(config, runs_uri, study_name, resume))
    open_it = ledger.extended if extend else ledger.open if resume else ledger.create
    header = open_it(config, manifest.fingerprint)
    stop = StopSign()
    with Lease(f"{ledger.uri}/lease", _holder(), stop.take_over) as lease:
        if lease.predecessor is not None and not lease.predecessor.released:
            on_event(StudyEvent("note", "waiting for what the former driver left to end"))
            wait_until_gone(lease.predecessor)
        tracker = tracker or open_tracker(config.tracking, runs_uri)
        known = [Point.from_json(trial.point) for trial in ledger.trials().values() if trial.point is not None]
        tracking = StudyTracking(tracker, ledger.study, config, manifest, known)
        if extend:
            ledger.put_header(header)
        elif resume:
            ledger.reopen(config)
        with _ending_run(tracking, stop):
            started = time.monotonic()
            reuse = Reuse(ledger, config, manifest.fingerprint)
            asks_anew = bool(header.extensions) and any(
                is_among(line, ("eval",)) for line in header.extensions[-1]["changes"]
            )
            running = _Running(
                config, ledger, tracking, stop, execute, on_event, reuse, len(header.extensions), asks_anew
            )
            book = running.to_its_end(controls)
            return _result(running, book, header, manifest, time.monotonic() - started)


@contextmanager
def _ending_run(tracking: StudyTracking, stop: StopSign) -> Iterator[None]:
    """Closes the parent run as what became of the study, unless another driver has taken it over."""
    status: Status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if not stop.is_taken_over:
            tracking.tracker.end_run(tracking.run_id, status)


@dataclass
class _Running:
    """A study while this driver runs it.

    Attributes:
        reuse: what equal trials have left.
        extension: number of the one that runs; 0: the study itself.
        asks_anew: whether it changes what trials are evaluated on.
        left_out: why some of the study's own controls are not among its trials.
        limit: why no more was started.
    """

    config: ExperimentConfig
    ledger: Ledger
    tracking: StudyTracking
    stop: StopSign
    execute: Execute
    on_event: OnEvent
    reuse: Reuse
    extension: int = 0
    asks_anew: bool = False
    left_out: list[str] = field(default_factory=list)
    limit: str | None = None

    def to_its_end(self, controls: Settled) -> StudyBook:
        """Everything that is open; then what follows from the front that the search has found."""
        assert self.config.sweep is not None
        if self.asks_anew:
            self._ask_again()
        self._put(controls)
        self.on_event(StudyEvent("study", f"study {self.ledger.study}: {self.tracking.url() or self.ledger.uri}"))
        book = self._run_open()
        if self.config.sweep.controls_at_front and self.limit is None:
            self._put(settled(self.config, book.budgets_of_front()))
            self._put_trials(book.routes_of_dynamic_trials())
            book = self._run_open()
        return book

    def _put(self, controls: Settled) -> None:
        for line in controls.left_out:
            if line not in self.left_out:
                self.on_event(StudyEvent("note", line))
                self.left_out.append(line)
        self._put_trials(control_trials(controls.kept))

    def _put_trials(self, trials: Sequence[Trial]) -> None:
        """Into the ledger, those that it does not know, under this name or another."""
        known = self.ledger.trials()
        names = {trial.fingerprint: trial.key for trial in known.values() if trial.is_control}
        for trial in trials:
            if trial.key in known:
                continue
            trial = replace(trial, fingerprint=self.reuse.fingerprint(trial, known))
            name = names.setdefault(trial.fingerprint, trial.key)
            # A control with more seeds than before is called otherwise; its first seed is the one that is there.
            known[trial.key] = self._put_trial(trial, known) if name == trial.key else known[name]

    def _put_trial(self, trial: Trial, known: Mapping[str, Trial]) -> Trial:
        """Into the ledger, with the result of an equal one where there is such."""
        on = None if trial.on is None else known[trial.on].key
        trial = self.reuse.taken_over(replace(trial, extension=self.extension, on=on), known)
        self.ledger.put(trial)
        return trial

    def _ask_again(self) -> None:
        """An extension may ask more questions: what has been trained stays, and answers them anew."""
        known = self.ledger.trials()
        for trial in known.values():
            if trial.state != "finished" or not trial.fingerprint:
                continue
            print_ = self.reuse.fingerprint(trial, known)
            if print_ != trial.fingerprint:
                folder = f"evaluation-{print_[:8]}"
                again = trial.become("waiting", fingerprint=print_, evaluation_folder=folder, evaluation_uri=None)
                self.ledger.put(again)

    def _run_open(self) -> StudyBook:
        """What is open in the ledger and what the search still proposes."""
        assert self.config.sweep is not None
        known = self.ledger.trials()
        others = comparable_proposals(self.ledger, self.config) if self.config.sweep.reuse == "all" else []
        search = StudySearch(
            self.config.sweep,
            list(known.values()),
            self._put_trial,
            others,
            lambda: spending.refusal(),
        )
        num_trials = sum(trial.is_settled for trial in known.values()) + search.num_open
        book = StudyBook(self.ledger, self.tracking, num_trials, self.stop, self.on_event, self.reuse.note)
        spending = Spending(
            self.config.sweep.limits, book.trials.values, lambda: book.hours_of_running, lambda: search.num_open
        )
        book.spending = spending
        trainable = build_trainable(self.config, self.ledger.runs_uri, self.ledger.study, self.execute)
        with book:
            try:
                run_tuner(trainable, search, book, self.config)
            finally:
                was_cut_short = book.put_back()
            self.limit = spending.refusal() if search.num_open else None
            if was_cut_short or (search.num_open and self.limit is None):
                raise KeyboardInterrupt  # Tune answers Ctrl-C by returning
        if self.limit is not None:
            self.on_event(StudyEvent("note", f"{self.limit}; {search.num_open} trials are left for an extension"))
        return book


def _result(running: _Running, book: StudyBook, header: Header, manifest: Manifest, spent_s: float) -> StudyResult:
    config, ledger = running.config, running.ledger
    trials = ledger.trials().values()
    evaluated = [book.point(trial) for trial in trials if trial.state == "finished"]
    running.tracking.settle(point for point, _ in evaluated)
    stopped = {trial.key: str(trial.reason) for trial in trials if trial.state == "stopped"}
    failed = {trial.key: str(trial.reason) for trial in trials if trial.state == "failed"}
    if not failed and running.limit is None:
        ledger.finish(header.duration_s + spent_s)
    versions, axis = manifest_of_versions(), axis_of(config.eval)
    meta = {
        "created": header.created,
        "split": config.data.eval_split,
        "benchmarks": [entry.name for entry in config.eval.benchmarks],
        "accuracy": axis.name,
        "interval": f"{'Wilson' if axis.benchmarks == (HELD_OUT,) else 'Bootstrap'} 95% intervals over questions",
        "seed": config.train.seed,
        "train_steps": config.train.steps,
        "base": config.model.base,
        "data_uri": manifest.root,
        "data_fingerprint": manifest.fingerprint,
        "config_fingerprint": fingerprint(config),
        "code_version": code_version(),
        "versions": versions["packages"],
        "command": versions["command"],
        "duration_s": round(header.duration_s + spent_s, 1),
        **({"stopped": stopped} if stopped else {}),
        **({"failed": failed} if failed else {}),
        **({"left_out": running.left_out} if running.left_out else {}),
        **({"limit": running.limit} if running.limit else {}),
        **({"extensions": list(ledger.header().extensions)} if header.extensions else {}),
    }
    return StudyResult(
        study_name=ledger.study,
        run_id=book.tracking.run_id,
        mlflow_uri=book.tracking.url() if config.tracking.backend == "mlflow" else "",
        points=tuple(point for point, _ in evaluated),
        examples={point.name: result.examples for point, result in evaluated},
        stopped=stopped,
        failed=failed,
        ledger_uri=ledger.uri,
        meta=meta,
    )


def _study_name(config: ExperimentConfig, runs_uri: str, given: str | None, resume: bool) -> str:
    if given is not None:
        if not re.fullmatch(NAME_PATTERN, given):
            raise DpnError(f"study name '{given}': letters, digits and ._- are allowed, a letter or digit first")
        return given
    if resume:
        return latest_unfinished(runs_uri, config.name)
    return f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _holder() -> Holder:
    context = ray.get_runtime_context()
    return Holder.this_process(context.get_job_id(), context.get_node_id())
