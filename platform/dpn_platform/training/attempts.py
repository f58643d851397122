"""Attempts at a run: what Ray Train cannot mend by itself is tried again, or told in one line."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError
from ray.train import TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer

from dpn_platform.config.errors import FAULTS_OF_CODE, DpnError
from dpn_platform.config.training import TrainConfig
from dpn_platform.services.ray_client import STORAGE_PATIENCE_S
from dpn_platform.storage import PATIENCE_VARIABLE, exists
from dpn_platform.training.entry import train_here
from dpn_platform.training.worker_settings import WorkerSettings

#: what gloo and NCCL say on the ranks that are left
_LOST_NEIGHBOUR = re.compile(r"gloo/transport|ncclRemoteError|[Cc]onnection (reset|closed) by peer|[Rr]emote process")
CONTROLLER_PAUSE_S = 5.0


def run_attempts(build_trainer: Callable[[], TorchTrainer], run_uri: str, max_failures: int) -> str | None:
    """Runs the trainer; returns what the workers agreed is wrong, None after success.

    Ray Train starts failed workers again by itself, but gives up when its controller cannot reach the storage, or is
    lost: such a failure is counted against `train.max_failures` here, and the store waited for.
    """
    failures, run_name = 0, run_uri.rpartition("/")[2]
    while True:
        try:
            with _interruptible():
                problem: str | None = build_trainer().fit().return_value
            return problem
        except WorkerGroupError as error:
            # Neighbours of a worker that died know only that their connection broke, and may be told before it.
            told = {rank: _last_line(failure) for rank, failure in error.worker_failures.items()}
            rank, line = min(told.items(), key=lambda item: (_LOST_NEIGHBOUR.search(item[1]) is not None, item[0]))
            if _LOST_NEIGHBOUR.search(line):
                line = f"it lost another worker, which was killed, ran out of memory or lost its node ({line[:200]})"
            raise DpnError(f"run {run_name} failed on worker {rank}: {line}") from error
        except (TrainingFailedError, RayActorError) as error:
            failures += 1
            if failures > max_failures or not _is_controllers(error):
                raise DpnError(f"run {run_name} failed: {_last_line(error)}") from error
            _await_storage(run_uri)


def attempt_here(settings: WorkerSettings, train: TrainConfig) -> str | None:
    """The same without a worker group, in this process: what it raises is tried again from the latest checkpoint.

    A fault of the code is not: it would come again.
    """
    for failures in range(train.max_failures + 1):
        try:
            return train_here(settings, use_gpu=train.use_gpu, num_to_keep=train.num_checkpoints_to_keep)
        except FAULTS_OF_CODE:
            raise
        except Exception as error:
            if failures == train.max_failures:
                line = str(error) if isinstance(error, DpnError) else f"{type(error).__name__}: {_last_line(error)}"
                raise DpnError(f"run {settings.run_name} failed: {line}") from error
    raise AssertionError("max_failures is not negative")


def _is_controllers(error: Exception) -> bool:
    """Whether storage failed Ray Train's controller, at its start or later, or it was killed with its node."""
    if isinstance(error, RayActorError):
        return not error.actor_init_failed or _last_line(error).startswith("OSError")
    return isinstance(getattr(error, "controller_failure", None), OSError)


def _await_storage(uri: str) -> None:
    """Until it answers, at most as long as workers wait for it; the next attempt says what is wrong."""
    ends = time.monotonic() + float(os.environ.get(PATIENCE_VARIABLE) or STORAGE_PATIENCE_S)
    while True:
        time.sleep(CONTROLLER_PAUSE_S)
        try:
            exists(uri)
            return
        except DpnError:
            if time.monotonic() >= ends:
                return


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ray Train answers Ctrl-C by ending the process (status 0 or 1, as it comes), and leaves its handler in place."""
    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if is_main:
            signal.signal(signal.SIGINT, previous)


def _last_line(error: Any) -> str:
    """The essence of what a worker raised: Ray wraps it in a traceback of several layers."""
    lines = str(error).strip().splitlines()
    return lines[-1].removeprefix(f"{DpnError.__module__}.DpnError: ") if lines else type(error).__name__
