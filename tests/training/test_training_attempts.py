"""How a run answers to what Ray Train cannot mend by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError

from dpn_platform.config.errors import DpnError
from dpn_platform.training import attempts
from dpn_platform.training.attempts import run_attempts

AWAY = ControllerError(OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 7"))

KILLED = ActorDiedError()
BROKEN = "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:4854: Connection reset by peer"


def unborn(cause: Exception) -> ActorDiedError:
    """What a controller leaves that fails at its start, inside Ray's layers."""
    text = f"Traceback\n  ...\n{type(cause).__name__}: {cause}"
    return ActorDiedError(RayTaskError("TrainController.__init__", text, cause))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(attempts.time, "sleep", made.append)
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


@pytest.mark.parametrize("failure", [AWAY, unborn(OSError("AWS Error NETWORK_CONNECTION: curlCode: 7")), KILLED])
def test_a_controller_that_lost_its_storage_or_was_killed_is_started_again(
    failure: Exception, pauses: list[float]
) -> None:
    assert run_attempts(trainers(failure, failure, None), "x", max_failures=2) is None
    assert pauses == [attempts.CONTROLLER_PAUSE_S] * 2


def test_the_next_attempt_waits_for_the_store(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([False, False, True])

    def exists(uri: str) -> bool:
        assert uri == "s3://bucket/runs/x"
        if not next(answers):
            raise DpnError("cannot look up s3://bucket/runs/x")
        return True

    monkeypatch.setattr(attempts, "exists", exists)
    assert run_attempts(trainers(AWAY, None), "s3://bucket/runs/x", max_failures=1) is None
    assert len(pauses) == 3


def test_it_does_not_wait_for_ever(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(uri: str) -> bool:
        raise DpnError(f"cannot look up {uri}")

    monkeypatch.setattr(attempts, "exists", exists)
    monkeypatch.setenv("DPN_STORAGE_PATIENCE_S", "0.001")
    with pytest.raises(DpnError, match="run x failed: .*curlCode: 7"):
        run_attempts(trainers(AWAY, AWAY), "s3://bucket/runs/x", max_failures=1)


def test_it_is_not_started_again_for_ever(pauses: list[float]) -> None:
    with pytest.raises(DpnError, match="run x failed: .*curlCode: 7"):
        run_attempts(trainers(AWAY, AWAY, None), "x", max_failures=1)


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (ControllerError(RuntimeError("no such resource")), "run x failed: no such resource"),
        (unborn(ValueError("no such backend")), "run x failed: ValueError: no such backend"),
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
        run_attempts(trainers(failure), "x", max_failures=5)
    assert str(refusal.value) == line
    assert pauses == []
