"""The Ray Tune side of a study: one Tuner over the search, its callback, and the end of a predecessor's actors."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as TuneTrial

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.sweeps.book import StudyBook
from dpn_platform.sweeps.lease import Holder
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.trainable import trial_resources

GONE_TIMEOUT_S = 120.0
_GRACE_S = 10.0


class BookKeeping(tune.Callback):
    """Tune's events into the book. Raises inside Tune's loop when the study cannot go on, which ends its trials."""

    def __init__(self, book: StudyBook) -> None:
        self.book = book
        self.reports: dict[str, dict[str, Any]] = {}

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Called several times a second."""
        self.book.stop.check()

    def on_trial_start(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Also when Tune starts a trial again that lost its process."""
        self.book.started(trial.config["key"])

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """The one report of a trial."""
        self.reports[trial.config["key"]] = result

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The trial's function has returned."""
        key = trial.config["key"]
        self.book.reported(key, self.reports.get(key, {"error": "the trial ended without a result"}))

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """The trial's process was lost more often than `train.max_failures`."""
        detail = str(trial.get_error() or "its process was lost").strip()
        key = trial.config["key"]
        if self.book.trials[key].state != "running":
            self.book.started(key)  # lost before it ran
        self.book.failed(key, detail.splitlines()[-1], detail)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks; a resume makes new ones


def run_tuner(
    trainable: Callable[[dict[str, Any]], None],
    search: StudySearch,
    book: StudyBook,
    config: ExperimentConfig,
) -> None:
    """Run every open trial. Returns early after Ctrl-C, which Tune answers by ending its trials in order.

    Raises:
        DpnError: the study cannot go on.
    """
    assert config.sweep is not None
    if search.num_open == 0:
        return
    tuner = tune.Tuner(
        tune.with_resources(trainable, trial_resources(config)),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=search.num_open,
            max_concurrent_trials=config.sweep.max_concurrent_trials,
            trial_dirname_creator=_folder_name,
            reuse_actors=True,  # a new process would spend ten seconds on imports
        ),
        run_config=tune.RunConfig(
            name=f"attempt-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            storage_path=f"{book.ledger.uri}/tune",
            callbacks=[BookKeeping(book)],
            failure_config=tune.FailureConfig(max_failures=config.train.max_failures),
            verbose=0,
        ),
    )
    try:
        _keep_credentials_home()
        with _quiet_tune():
            tuner.fit()
    except Exception:
        book.stop.check()  # what we raised inside Tune's loop comes back wrapped
        raise


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """No console output, and no log files of Tune's own: the ledger, the tracker and the watcher are told it all."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _keep_credentials_home() -> None:
    """Tune would copy the driver's AWS keys into its trials' runtime_env, which Ray logs; the nodes have their own."""
    class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}


def _folder_name(trial: TuneTrial) -> str:
    return str(trial.config["key"])


def wait_until_gone(predecessor: Holder) -> None:
    """Wait until nothing of a dead driver's Ray job runs: its trials share run names and storage with ours.

    Ray ends a lost driver's actors by itself, within seconds.

    Raises:
        DpnError: they are still there after two minutes.
    """
    here = ray.get_runtime_context()
    nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if not predecessor.job_id or predecessor.job_id == here.get_job_id() or predecessor.node_id not in nodes:
        return  # the cluster it ran in is no more
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while left := _actors_of(predecessor.job_id):
        if time.monotonic() > deadline:
            raise DpnError(f"the former driver's actors do not end: {', '.join(left)}; see the Ray dashboard")
        time.sleep(0.5)


def _actors_of(job_id: str) -> list[str]:
    """Class names of the job's living actors."""
    from ray.util.state import list_actors

    try:
        actors = list_actors(filters=[("job_id", "=", job_id), ("state", "!=", "DEAD")], raise_on_missing_output=False)
    except Exception:  # the state API needs the dashboard, which a cluster may lack
        time.sleep(_GRACE_S)
        return []
    return sorted({actor.class_name for actor in actors if "Cleaner" not in actor.class_name})
