"""`dpn train`'s tracking: the tracked run follows the training, and a refused run leaves it alone."""

import json
from dataclasses import replace

import pytest

from dpn_platform.cli.train import _train_tracked
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.tracking import MemoryTracker
from dpn_platform.training import run as training_run
from dpn_platform.training.run_folder import TrainingOutcome
from dpn_platform.training.tracked_run import TrackedRun

ROUTING = {"router/keep_ratio": 0.5, "router/keep_ratio_layer_02": 0.25, "routes/layer_02/1x1": 1.0}
LINES = [{"step": 1, "train/loss_lm": 2.0, **ROUTING}, {"step": 2, "train/loss_lm": 1.0, **ROUTING}]
CONFIG = parse_config({"name": "x", "tracking": {"uri": "http://me:hunter2@host"}})


@pytest.fixture
def train(monkeypatch):
    """Replaces the training: reports `lines`, then raises `error` or ends well."""

    def prepare(lines, error=None, stop_reason=None):
        def run_training(config, *, run_name, on_report, on_note):
            for line in lines:
                on_report(line)
            if error is not None:
                raise error
            status = "stopped" if stop_reason else "finished"
            outcome = TrainingOutcome(run_name, "s3://r", "s3://r/step_2", "s3://r/export", status, 2, LINES[-1])
            return replace(outcome, stop_reason=stop_reason)

        monkeypatch.setattr(training_run, "run_training", run_training)

    return prepare


def test_finished_run_has_its_curve_its_model_and_its_origin(train):
    tracker = MemoryTracker()
    train(LINES)
    outcome, run_id = _train_tracked(CONFIG, "x-1", tracker)
    run = tracker.runs[run_id]
    assert run.status == "FINISHED"
    assert run.metrics["train/loss_lm"] == {1: 2.0, 2: 1.0}
    assert "routes/layer_02/1x1" not in run.metrics
    assert run.models["x-1"].uri == outcome.export_uri
    assert run.params["train.steps"] == "200"
    assert set(run.artifacts) == {"config.yaml", "provenance.json", "routing.json", "routing.svg"}
    routing = json.loads(run.artifacts["routing.json"])
    assert routing["steps"] == [1, 2]
    assert routing["sites"][0]["expert_shares"] == {"1x1": [1.0, 1.0]}
    assert b"after layer 2" in run.artifacts["routing.svg"]
    assert "hunter2" not in str(run)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "KILLED"), (DpnError("diverged"), "FAILED")])
def test_run_that_ends_badly_is_marked_and_continued_as_the_same_run(train, error, status):
    tracker = MemoryTracker()
    train(LINES[:1], error)
    with pytest.raises(type(error)):
        _train_tracked(CONFIG, "x-1", tracker)
    assert [run.status for run in tracker.runs.values()] == [status]
    train(LINES)
    _train_tracked(CONFIG, "x-1", tracker)
    assert [run.status for run in tracker.runs.values()] == ["FINISHED"]


def test_refused_run_leaves_the_tracked_run_of_that_name_alone(train):
    tracker = MemoryTracker()
    train(LINES)
    _train_tracked(CONFIG, "x-1", tracker)
    train([], DpnError("a run of another configuration"))
    with pytest.raises(DpnError):
        _train_tracked(CONFIG, "x-1", tracker)
    assert [run.status for run in tracker.runs.values()] == ["FINISHED"]


def test_run_that_a_guard_stopped_says_so_in_the_tracker(train):
    tracker = MemoryTracker()
    train(LINES, stop_reason="3 device-hours at step 2")
    _, run_id = _train_tracked(CONFIG, "x-1", tracker)
    assert tracker.runs[run_id].status == "KILLED"
    assert tracker.runs[run_id].artifacts["reason.txt"] == b"3 device-hours at step 2\n"


def test_a_budget_that_only_warns_is_told_while_the_run_goes_on(train, capsys):
    guards = {"keep_ratio": [0.6, 0.9], "grace_steps": 0, "patience_lines": 2, "action": "warn"}
    config = parse_config({"name": "x", "train": {"guards": guards}})
    train(LINES)
    outcome, _ = _train_tracked(config, "x-1", MemoryTracker())
    assert outcome.status == "finished"
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: router/keep_ratio is 0.500 at step 2, for 2 lines outside train.guards.keep_ratio [0.6, 0.9]"
    ]


def test_routing_is_kept_now_and_then_while_the_run_is_under_way():
    tracker, now = MemoryTracker(), [0.0]
    tracked = TrackedRun(tracker, CONFIG, "x-1", clock=lambda: now[0])
    tracked.log_line(LINES[0])
    assert "routing.json" not in tracker.runs[tracked.run_id].artifacts
    now[0] = 121.0
    tracked.log_line(LINES[1])
    assert json.loads(tracker.runs[tracked.run_id].artifacts["routing.json"])["steps"] == [1, 2]
