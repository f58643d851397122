"""How a run answers to what Ray Train cannot mend by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError

from dpn_platform.config.errors import DpnError
from dpn_platform.training import run

AWAY = ControllerError(OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7"))

BROKEN = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:4854: Connection reset by peer"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(run.time, "sleep", made.append)
    return made


def trainers(*results: Any) -> Any:
    """Builds a trainer whose `fit` raises or returns the next of the results."""
    left = iter(results)

    def fit() -> Any:
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return SimpleNamespace(return_value=result)

    return lambda: SimpleNamespace(fit=fit)


def test_a_controller_that_lost_its_storage_is_started_again(pauses: list[float]) -> None:
    assert run._fit(trainers(AWAY, AWAY, None), "x", max_failures=2) is None
    assert pauses == [run.CONTROLLER_PAUSE_S] * 2


def test_it_is_not_started_again_for_ever(pauses: list[float]) -> None:
    with pytest.raises(DpnError, match="run x failed: .*curlCode: 7"):
        run._fit(trainers(AWAY, AWAY, None), "x", max_failures=1)


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (ControllerError(RuntimeError("no such resource")), "run x failed: no such resource"),
        (
            WorkerGroupError("two", {1: "Traceback\n  ...\ndpn_platform.config.errors.DpnError: row 7 is damaged"}),
            "run x failed on worker 1: row 7 is damaged",
        ),
        (
            WorkerGroupError("two", {0: f"Traceback\n{BROKEN}", 1: "the worker died: killed by signal 9"}),
            "run x failed on worker 1: the worker died: killed by signal 9",
        ),
        (
            WorkerGroupError("one", {0: f"Traceback\n{BROKEN}"}),
            "run x failed on worker 0: it lost another worker, which was killed, ran out of memory or lost its node "
            f"({BROKEN})",
        ),
    ],
)
def test_other_failures_end_the_run_in_one_line(failure: TrainingFailedError, line: str, pauses: list[float]) -> None:
    with pytest.raises(DpnError) as refusal:
        run._fit(trainers(failure), "x", max_failures=5)
    assert str(refusal.value) == line
    assert pauses == []
