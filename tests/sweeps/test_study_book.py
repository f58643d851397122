"""The book of a study: what becomes of a trial is in the ledger, in the tracker and told, with any tracker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.controls import all_control_trials
from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest, Quarantine, Split
from dpn_platform.reports.study.source import read_study
from dpn_platform.storage import write_bytes
from dpn_platform.sweeps.book import StudyBook
from dpn_platform.sweeps.events import StopSign, StudyEvent
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.search import ACCURACY, FLOPS_RATIO
from dpn_platform.sweeps.tracking import StudyTracking
from dpn_platform.sweeps.trials import control_trials
from dpn_platform.sweeps.tuning import BookKeeping
from dpn_platform.tracking import MemoryTracker, Tracker
from dpn_platform.tracking.off import OffTracker

MANIFEST = Manifest(
    schema_version=1,
    name="set",
    source="memory",
    splits={
        name: Split(rows=rows, images=rows, text_only=0, sources={}, shards=())
        for name, rows in (("train", 40), ("test", 10))
    },
    quarantine=Quarantine(),
    fingerprint="0123456789abcdef",
).at("file:///set")


class Study:
    """A study with its two controls in the ledger, and a book over it."""

    def __init__(self, config: Any, make_outcome: Any, write_evaluation: Any, tracker: Tracker) -> None:
        self.make_outcome, self.write_evaluation = make_outcome, write_evaluation
        self.events: list[StudyEvent] = []
        self.ledger = Ledger(config.storage.runs_uri, "s")
        self.ledger.create(config)
        for trial in control_trials(all_control_trials(config.sweep.controls)):
            self.ledger.put(trial)
        self.tracking = StudyTracking(tracker, "s", config, MANIFEST)
        self.book = self.open()

    def open(self) -> StudyBook:
        return StudyBook(self.ledger, self.tracking, 2, StopSign(), self.events.append)

    def finish(self, key: str) -> dict[str, Any]:
        """What a trial reports that has ended well; its lines and its evaluation are in storage."""
        run_uri = f"{self.ledger.runs_uri}/s-{key}"
        write_bytes(
            f"{run_uri}/metrics.jsonl", b'{"step": 2, "train/loss_lm": 1.5}\n{"step": 4, "train/loss_lm": 0.5}\n'
        )
        self.write_evaluation(run_uri)
        outcome = asdict(self.make_outcome(run_uri))
        return {"outcome": outcome, "evaluation_uri": f"{run_uri}/evaluation", ACCURACY: 0.9, FLOPS_RATIO: 0.5}


@pytest.fixture(params=[MemoryTracker, OffTracker])
def study(request: Any, make_config: Any, make_outcome: Any, write_evaluation: Any) -> Study:
    return Study(make_config(), make_outcome, write_evaluation, request.param())


def test_a_finished_trial_is_in_the_ledger_the_tracker_and_the_report(study: Study) -> None:
    study.book.started("dense")
    study.book.reported("dense", study.finish("dense"))
    trial = study.ledger.trial("dense")
    assert (trial.state, trial.values) == ("finished", {ACCURACY: 0.9, FLOPS_RATIO: 0.5})
    assert [event.kind for event in study.events] == ["started", "progress", "progress", "finished"]
    point, _ = study.book.point(trial)
    assert (point.name, point.method, point.accuracy) == ("dense", "dense", 0.9)
    assert read_study(study.ledger.uri).points == (point,)  # needs no tracker
    tracker = study.tracking.tracker
    if isinstance(tracker, MemoryTracker):
        run = tracker.runs[str(trial.run_id)]
        assert (run.status, run.parent_id) == ("FINISHED", study.tracking.run_id)
        assert run.metrics["train/loss_lm"] == {2: 1.5, 4: 0.5}
        assert {"config.yaml", "provenance.json", "point.json"} <= set(run.artifacts)
        assert list(run.models) == ["s-dense"]


def test_what_a_guard_stopped_is_settled_with_its_reason(study: Study) -> None:
    study.book.started("static_2x2")
    outcome = study.make_outcome(f"{study.ledger.runs_uri}/s-static_2x2", status="stopped", stop_reason="hopeless")
    study.book.reported("static_2x2", {"outcome": asdict(outcome), "stopped": "hopeless"})
    trial = study.ledger.trial("static_2x2")
    assert (trial.state, trial.reason, trial.is_settled) == ("stopped", "hopeless", True)


def test_a_study_cannot_go_on_without_its_reference(study: Study) -> None:
    study.book.started("dense")
    study.book.reported("dense", {"error": "out of memory", "traceback": "line 1"})
    assert study.ledger.trial("dense").state == "failed"
    with pytest.raises(DpnError, match=r"control 'dense' failed: out of memory; the whole trace: .*dense\.txt"):
        study.book.stop.check()


def test_what_ran_when_the_driver_ended_waits_for_a_resume(study: Study) -> None:
    study.book.started("dense")
    assert study.open().trials["dense"].state == "waiting"  # killed: nobody put it back
    assert study.book.put_back()
    assert study.ledger.trial("dense").state == "waiting"
    assert not study.book.put_back()


def test_another_driver_s_study_is_left_alone(study: Study) -> None:
    study.book.started("dense")
    study.book.stop.take_over()
    assert study.book.put_back()
    assert study.ledger.trial("dense").state == "running"


def test_tune_s_events_reach_the_book(study: Study) -> None:
    class TuneTrial:
        config = {"key": "dense"}

        def get_error(self) -> Exception:
            return RuntimeError("the actor died\nnode lost")

    keeping, trial = BookKeeping(study.book), TuneTrial()
    keeping.on_trial_start(0, [], trial)  # type: ignore[arg-type]
    keeping.on_trial_result(0, [], trial, study.finish("dense"))  # type: ignore[arg-type]
    keeping.on_trial_complete(0, [], trial)  # type: ignore[arg-type]
    assert study.ledger.trial("dense").state == "finished"
    trial.config["key"] = "static_2x2"
    keeping.on_trial_error(0, [], trial)  # type: ignore[arg-type]
    assert study.ledger.trial("static_2x2").reason == "node lost"
    assert keeping.__getstate__() == {}


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match=r"no study\.json here"):
        read_study(str(tmp_path))


def test_the_tracker_is_told_the_data_the_source_and_where_every_trial_stands(
    make_config: Any, make_outcome: Any, write_evaluation: Any
) -> None:
    tracker = MemoryTracker()
    study = Study(make_config(), make_outcome, write_evaluation, tracker)
    parent = tracker.runs[study.tracking.run_id]
    assert [(one["name"], one["rows"], one["context"]) for one in parent.data] == [
        ("set/train", 40, "training"), ("set/test", 10, "evaluation")
    ]  # fmt: skip
    assert {one["digest"] for one in parent.data} == {MANIFEST.fingerprint}
    assert "/" not in parent.tags["mlflow.source.name"].split()[0]
    assert set(tracker.views) == {"studies", "s"}

    def finish(key: str, accuracy: float, ratio: float) -> Any:
        study.book.started(key)
        report = study.finish(key)
        study.write_evaluation(f"{study.ledger.runs_uri}/s-{key}", accuracy, ratio)
        study.book.reported(key, report)
        return tracker.runs[str(study.ledger.trial(key).run_id)]

    dense = finish("dense", 0.8, 0.9)
    assert (dense.tags["dpn.on_front"], dense.tags["dpn.rank"], dense.status) == ("true", "1", "FINISHED")
    assert [one["context"] for one in dense.data] == ["training", "evaluation"]
    assert dense.metrics["point/accuracy"] == {4: 0.8}
    assert dense.metrics["best/loss_lm"] == {4: 0.5}
    static = finish("static_2x2", 0.9, 0.5)
    assert (static.tags["dpn.on_front"], dense.tags["dpn.on_front"], dense.tags["dpn.rank"]) == ("true", "false", "2")
    assert dense.tags["mlflow.runColor"] != static.tags["mlflow.runColor"]
    before = {run.run_id: dict(run.tags) for run in tracker.runs.values()}

    known = [study.book.point(trial)[0] for trial in study.ledger.trials().values()]
    again = StudyTracking(tracker, "s", study.tracking.config, MANIFEST, known)
    again.settle(known)
    assert {run.run_id: run.tags for run in tracker.runs.values()} == before
    assert len(parent.data) == 2


def test_a_point_that_ended_before_the_reference_is_judged_by_it_in_the_end(
    make_config: Any, make_outcome: Any, write_evaluation: Any
) -> None:
    config = make_config(constraints=["flops_ratio <= dense * 0.5"])
    study = Study(config, make_outcome, write_evaluation, MemoryTracker())
    for key in ("static_2x2", "dense"):
        study.book.started(key)
        study.book.reported(key, study.finish(key))
    kept = study.ledger.trial("static_2x2").point
    assert kept is not None
    assert kept["is_feasible"], "nothing was known of dense"
    assert not any(point.is_feasible for point, _ in study.book.settled_points())
    assert not study.ledger.trial("static_2x2").point["is_feasible"], "a study is read from its ledger"


def test_hours_of_a_process_that_was_lost_count_too(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("dpn_platform.sweeps.book.time.monotonic", lambda: clock[0])
    for now in (0.0, 3600.0):  # Tune starts a trial again whose process was lost
        clock[0] = now
        study.book.started("dense")
    clock[0] = 7200.0
    study.book.failed("dense", "out of memory")
    assert study.ledger.trial("dense").device_hours == 2.0


def test_hours_of_a_driver_that_is_lost_are_in_the_ledger(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("dpn_platform.sweeps.book.time.monotonic", lambda: clock[0])
    study.book.started("dense")
    for clock[0] in (1020.0, 1036.0, 1050.0):
        study.book._look_at("dense")
    assert study.ledger.trial("dense").device_hours == pytest.approx(36 / 3600), "noted every 30 seconds"

    clock[0] = 5000.0  # the driver was killed; another one goes on
    later = study.open()
    later.started("dense")
    clock[0] = 5090.0
    later.reported("dense", study.finish("dense"))
    assert study.ledger.trial("dense").device_hours == pytest.approx((36 + 90) / 3600)
