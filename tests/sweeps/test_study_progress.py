"""What people see of a running study."""

import pytest

from dpn_platform.cli.study_progress import StudyProgress
from dpn_platform.sweeps.events import StudyEvent


@pytest.fixture
def seen():
    return {"notes": [], "bar": []}


@pytest.fixture
def progress(seen):
    seen["now"] = 0.0
    return StudyProgress(lambda *args: seen["bar"].append(args), seen["notes"].append, lambda: seen["now"])


def event(kind, trial=None, step=0, done=0, **more):
    return StudyEvent(kind, f"{trial} {kind}", trial, step, 100 if step else 0, done=done, total=4, **more)


def test_trials_step_loss_and_time_left(progress, seen):
    progress(event("study"))
    progress(event("started", "dense"))
    seen["now"] = 60.0
    progress(event("progress", "dense", step=50, loss=1.23456))
    assert seen["bar"][-1] == (0.4, "dense step 50/100 loss 1.235, about 9 min left", 4)
    seen["now"] = 120.0
    progress(event("finished", "dense", done=1))
    assert seen["bar"][-1] == (1.0, "between trials, about 6 min left", 4)
    assert seen["notes"] == ["None study", "dense finished"]


def test_trials_side_by_side(progress, seen):
    progress(event("started", "a"))
    progress(event("started", "b"))
    progress(event("progress", "b", step=10, loss=0.5))
    assert seen["bar"][-1][1] == "a | b step 10/100 loss 0.500"


def test_a_resumed_study_counts_time_from_where_it_goes_on(progress, seen):
    progress(event("study", done=3))
    progress(event("started", "c", done=3))
    seen["now"] = 60.0
    progress(event("progress", "c", step=100, done=3))
    assert seen["bar"][-1] == (3.8, "c step 100/100, about 1 min left", 4)


def test_remarks_before_the_first_trial(progress, seen):
    progress(StudyEvent("note", "waiting"))
    assert seen["notes"] == ["waiting"]
    assert seen["bar"] == []
