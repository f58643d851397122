"""`dpn train`'s tracking: the tracked run follows the training, and a refused run leaves it alone."""

import pytest

from dpn_platform.cli.train import _train_tracked
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.tracking import MemoryTracker
from dpn_platform.training import run as training_run
from dpn_platform.training.run_folder import TrainingOutcome

LINES = [{"step": 1, "train/loss_lm": 2.0}, {"step": 2, "train/loss_lm": 1.0}]
CONFIG = parse_config({"name": "x", "tracking": {"uri": "http://me:hunter2@host"}})


@pytest.fixture
def train(monkeypatch):
    """Replaces the training: reports `lines`, then raises `error` or ends well."""

    def prepare(lines, error=None):
        def run_training(config, *, run_name, on_report):
            for line in lines:
                on_report(line)
            if error is not None:
                raise error
            return TrainingOutcome(run_name, "s3://r", "s3://r/step_2", "s3://r/export", "finished", 2, LINES[-1])

        monkeypatch.setattr(training_run, "run_training", run_training)

    return prepare


def test_finished_run_has_its_curve_its_model_and_its_origin(train):
    tracker = MemoryTracker()
    train(LINES)
    outcome, run_id = _train_tracked(CONFIG, "x-1", tracker)
    run = tracker.runs[run_id]
    assert run.status == "FINISHED"
    assert run.metrics == {"train/loss_lm": {1: 2.0, 2: 1.0}}
    assert run.models["x-1"].uri == outcome.export_uri
    assert run.params["train.steps"] == "200"
    assert set(run.artifacts) == {"config.yaml", "provenance.json"}
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
