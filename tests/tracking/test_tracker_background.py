"""Metrics are sent behind the work's back: at once, together, in order, and never as an exception."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dpn_platform.tracking.background import BackgroundTracker

WAIT_S = 60.0


class SlowTracker:
    """Takes the place of MlflowTracker: a request waits until it is let through; refuses what it is told to."""

    def __init__(self) -> None:
        self.let_through = threading.Event()
        self.is_busy = threading.Event()
        self.arrived: list[tuple[str, Any]] = []
        self.refused: set[str] = set()

    def log_lines(self, run_id: str, lines: list[Any]) -> None:
        self.is_busy.set()
        assert self.let_through.wait(WAIT_S)
        if run_id in self.refused:
            raise ValueError("no such run")
        self.arrived.append((run_id, [(line["step"], line["metrics"]) for line in lines]))

    def end_run(self, run_id: str, status: str) -> None:
        self.arrived.append((run_id, status))


@pytest.fixture
def slow() -> SlowTracker:
    return SlowTracker()


@pytest.fixture
def tracker(slow: SlowTracker) -> BackgroundTracker:
    return BackgroundTracker(slow)  # type: ignore[arg-type]


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_work_goes_on_while_the_server_is_slow_and_lines_gather(
    tracker: BackgroundTracker, slow: SlowTracker
) -> None:
    tracker.log_metrics("a", {"loss": 0.0}, 0)
    assert slow.is_busy.wait(WAIT_S)
    for step in range(1, 50):  # returns although the first request is still under way
        tracker.log_metrics("b" if step == 7 else "a", {"loss": float(step)}, step)
    tracker.log_metrics("a", {}, 99)
    assert slow.arrived == []

    ending = in_thread(lambda: tracker.end_run("a", "FINISHED"))
    slow.let_through.set()
    ending.join(WAIT_S)

    first, rest, other, end = slow.arrived
    assert first == ("a", [(0, {"loss": 0.0})])
    assert rest == ("a", [(step, {"loss": float(step)}) for step in range(1, 50) if step != 7])
    assert other == ("b", [(7, {"loss": 7.0})])
    assert end == ("a", "FINISHED")


def test_what_is_refused_is_dropped_with_a_warning_and_the_rest_goes_on(
    tracker: BackgroundTracker, slow: SlowTracker, caplog: pytest.LogCaptureFixture
) -> None:
    slow.let_through.set()
    slow.refused = {"gone"}
    with caplog.at_level(logging.WARNING):
        tracker.log_metrics("gone", {"loss": 1.0}, 1)
        tracker.flush()
        tracker.log_metrics("a", {"loss": 1.0}, 1)
        tracker.flush()
    assert "refused 1 metric lines of run gone: no such run" in caplog.text
    assert slow.arrived == [("a", [(1, {"loss": 1.0})])]


def test_nothing_logged_needs_no_thread(tracker: BackgroundTracker) -> None:
    before = threading.active_count()
    tracker.flush()
    assert threading.active_count() == before


def test_a_description_that_is_refused_ends_nothing(slow: SlowTracker, caplog: pytest.LogCaptureFixture) -> None:
    def describe(run_id: str, **_: Any) -> None:
        raise ValueError("the run was deleted")

    slow.describe = describe  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        BackgroundTracker(slow).describe("a", note="text")  # type: ignore[arg-type]
    assert "refused the description of run a: the run was deleted" in caplog.text
