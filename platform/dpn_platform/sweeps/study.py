"""The main job: `run_study` runs a study's controls and searched trials, or continues where it was interrupted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import ray

from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import HELD_OUT
from dpn_platform.config.load import fingerprint
from dpn_platform.config.provenance import code_version, manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.evaluation.answering.variants import variants_of
from dpn_platform.evaluation.axis import Axis, axis_of
from dpn_platform.evaluation.points import Point
from dpn_platform.storage import ensure_bucket, open_uri
from dpn_platform.sweeps.book import StudyBook
from dpn_platform.sweeps.budgets import settled
from dpn_platform.sweeps.events import OnEvent, StopSign, StudyEvent
from dpn_platform.sweeps.header import NAME_PATTERN, Header
from dpn_platform.sweeps.lease import Holder, Lease
from dpn_platform.sweeps.ledger import Ledger, latest_unfinished
from dpn_platform.sweeps.outlook import Outlook, outlook
from dpn_platform.sweeps.rungs import proxies, saving
from dpn_platform.sweeps.running import RunningStudy
from dpn_platform.sweeps.tracking import StudyTracking
from dpn_platform.sweeps.trainable import Execute, train_and_evaluate
from dpn_platform.sweeps.tuning import wait_until_gone
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
        trials = ledger.trials()
        known = [Point.from_json(trial.point) for trial in trials.values() if trial.point is not None]
        tracking = StudyTracking(tracker, ledger.study, config, manifest, known)
        if extend:
            if header.extensions and not {"planned_hours", "duration_s"} & set(header.extensions[-1]):
                seen = outlook(config, ledger, manifest.fingerprint)
                header = _with_plan(header, seen, sum(trial.device_hours for trial in trials.values()))
                on_event(StudyEvent("note", f"extension {header.extensions[-1]['number']}: {seen.line()}"))
            ledger.put_header(header)
        elif resume:
            ledger.reopen(config)
        with _ending_run(tracking, stop):
            started = time.monotonic()
            running = RunningStudy(config, ledger, tracking, stop, execute, on_event, header, manifest.fingerprint)
            book = running.to_its_end(controls)
            return _result(running, book, manifest, time.monotonic() - started)


def _with_plan(header: Header, seen: Outlook, hours_before: float) -> Header:
    """With what the last extension is expected to take, beside which the ledger puts what it took."""
    planned = {"planned_hours": seen.device_hours, "hours_before": hours_before}
    return replace(header, extensions=(*header.extensions[:-1], {**header.extensions[-1], **planned}))


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


def _interval(axis: Axis) -> str:
    """What error bars are, for people."""
    if axis.benchmarks == (HELD_OUT,):
        return "Wilson 95% intervals over questions"
    over = "pictures" if all(find_benchmark(name).asks_data_set for name in axis.benchmarks) else "questions"
    return f"Bootstrap 95% intervals over {over}"


def _result(running: RunningStudy, book: StudyBook, manifest: Manifest, spent_s: float) -> StudyResult:
    config, ledger, header = running.config, running.ledger, running.header
    trials = ledger.trials().values()
    evaluated = book.settled_points()
    running.tracking.settle(point for point, _ in evaluated)
    stopped = {trial.key: str(trial.reason) for trial in trials if trial.state == "stopped"}
    failed = {trial.key: str(trial.reason) for trial in trials if trial.state == "failed"}
    if failed and running.limit is None:
        ledger.finish_but_for(len(failed))
    elif running.limit is None:
        ledger.finish(header.duration_s + spent_s)
    versions, axis = manifest_of_versions(), axis_of(config.eval)
    meta = {
        "created": header.created,
        "split": config.data.eval_split,
        "benchmarks": [entry.name for entry in config.eval.benchmarks],
        "accuracy": axis.name,
        "interval": _interval(axis),
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
        **({"stopping": found} if (found := saving(trials)) else {}),
        **({"proxies": measured} if (measured := proxies(trials)) else {}),
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
