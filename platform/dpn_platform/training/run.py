"""One training run, from a configuration to an exported model: `run_training`.

A run is its name: started again under the same name and storage it continues from its latest checkpoint, and a
complete one returns its outcome at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback

from dpn_platform.config.errors import DpnError
from dpn_platform.config.provenance import code_version
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.published.presence import require_captions, require_shards
from dpn_platform.storage import join_uri, open_uri
from dpn_platform.training.attempts import attempt_here, run_attempts
from dpn_platform.training.cluster import check_cluster
from dpn_platform.training.entry import train_worker
from dpn_platform.training.guards import has_room
from dpn_platform.training.metric_lines import Line, read_metrics
from dpn_platform.training.run_folder import TrainingOutcome, claim, read_outcome, record_batches
from dpn_platform.training.run_plan import plan_run
from dpn_platform.training.words import check_words
from dpn_platform.training.worker_settings import Judge, WorkerSettings

if TYPE_CHECKING:
    from dpn_platform.training.loop import Callback

REPORT_EVERY_S = 1.0

OnReport = Callable[[Line], None]


def run_training(
    config: ExperimentConfig,
    *,
    run_name: str,
    callbacks: Sequence[Callback | UserCallback] = (),
    on_report: OnReport | None = None,
    judge: Judge | None = None,
    reference_uri: str | None = None,
    on_note: Callable[[str], None] | None = None,
    in_this_process: bool = False,
) -> TrainingOutcome:
    """Train, or continue, or return what is complete. Ray must be initialised.

    Args:
        config: the experiment.
        run_name: identity of the run below `storage.runs_uri`.
        callbacks: of the loop (called in every worker after every step, after ours; they must pickle), or Ray Train's
            `UserCallback`s (called in its controller, once per checkpoint).
        on_report: called with every new metric line, in order, from a thread of this process; lines of earlier
            attempts come first.
        judge, reference_uri: see `WorkerSettings`.
        on_note: called with a line about the data, where there is something to say.
        in_this_process: a run of one worker needs no worker group: it trains here, and if this process is lost, the
            same call elsewhere continues. For callers that are started again themselves, as a study's trials are.

    Raises:
        DpnError: the name is taken by a run of another configuration, the data set or the base is missing, the loss
            diverged, or workers failed more than `train.max_failures` times.
        KeyboardInterrupt: interrupted; the same call continues.
    """
    check_cluster(config.train)
    config = _with_absolute_uris(config)
    run_uri = join_uri(config.storage.runs_uri, run_name)
    manifest = load_manifest(config.data.uri)
    manifest.split(config.data.train_split)  # a misspelt one is told before the name is taken
    outcome = read_outcome(run_uri)
    if outcome is not None and has_room(outcome, config.train.guards):
        outcome = None  # it goes on
    if outcome is None:
        _check_data(config, manifest, on_note)
    claim(run_uri, config, manifest.fingerprint)
    if outcome is None:  # as in the workers: bad settings are refused before they start, and the counts are on record
        record_batches(run_uri, config, plan_run(config, manifest))
    with _reporting(run_uri, on_report):
        if outcome is None:
            own = [callback for callback in callbacks if not isinstance(callback, UserCallback)]
            values = config.model_dump(mode="json")
            settings = WorkerSettings(values, run_name, run_uri, judge, reference_uri, own, code_version())
            alone = in_this_process and config.train.num_workers == 1
            outcome = _work(config, settings, None if alone else callbacks)
    return outcome


def _work(
    config: ExperimentConfig, settings: WorkerSettings, callbacks: Sequence[Callback | UserCallback] | None
) -> TrainingOutcome:
    """The run to its end: in workers of Ray Train, or without its `callbacks` in this process."""
    if callbacks is None:
        problem = attempt_here(settings, config.train)
    else:
        rays = [callback for callback in callbacks if isinstance(callback, UserCallback)]
        build = partial(_trainer, config, settings, rays)
        problem = run_attempts(build, settings.run_uri, config.train.max_failures)
    if problem is not None:
        raise DpnError(f"run {settings.run_name}: {problem}")
    outcome = read_outcome(settings.run_uri)
    if outcome is None:
        raise DpnError(f"run {settings.run_name}: its workers ended without an outcome; see Ray's logs")
    return outcome


def _check_data(config: ExperimentConfig, manifest: Manifest, on_note: Callable[[str], None] | None) -> None:
    """Before the run's name is taken: what is refused here is tried again with other settings."""
    require_shards(manifest, config.data.train_split)
    if (told := check_words(config, manifest)) is not None and on_note:
        on_note(told)
    if config.model.template == "plain":
        require_captions(manifest, config.data.train_split)


class _Trainer(TorchTrainer):
    """Without the process that splits data sets given to a trainer: workers open their stream themselves."""

    def _create_default_callbacks(self) -> list[Any]:
        return [item for item in super()._create_default_callbacks() if not isinstance(item, DatasetsCallback)]


def _trainer(config: ExperimentConfig, settings: WorkerSettings, callbacks: list[UserCallback]) -> TorchTrainer:
    train = config.train
    resources = {"CPU": train.cpus_per_worker, **({"GPU": 1} if train.use_gpu else {})}
    _set_defaults_of_ray_train()
    return _Trainer(
        train_worker,
        train_loop_config={"settings": settings},
        scaling_config=ScalingConfig(
            num_workers=train.num_workers, use_gpu=train.use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if train.use_gpu else "gloo"),
        run_config=RunConfig(
            name=settings.run_name,
            # By URI, not as our filesystem: that would pickle credentials, which every node has in its environment.
            storage_path=config.storage.runs_uri,
            failure_config=FailureConfig(max_failures=train.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=train.num_checkpoints_to_keep),
            callbacks=list(callbacks),
        ),
    )


def _with_absolute_uris(config: ExperimentConfig) -> ExperimentConfig:
    """Workers run in another folder: plain paths are made absolute here."""
    data = config.data.model_copy(update={"uri": open_uri(config.data.uri).uri})
    storage = config.storage.model_copy(update={"runs_uri": open_uri(config.storage.runs_uri).uri})
    return config.model_copy(update={"data": data, "storage": storage})


def _set_defaults_of_ray_train() -> None:
    """Ray Train reads these where the run starts; what the user set stays."""
    # A report waits for the controller's next poll, two seconds by default.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Sixty seconds are too few for a loaded machine, or one that has to fetch an image first.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    # A single node is not taken away from under the run: spare it the watcher's process.
    if len([node for node in ray.nodes() if node["Alive"]]) == 1:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")


@contextmanager
def _reporting(run_uri: str, on_report: OnReport | None) -> Iterator[None]:
    """Hands new metric lines to `on_report` while inside, and the last ones on leaving."""
    if on_report is None:
        yield
        return
    ended, last_step = threading.Event(), [0.0]

    def report_new() -> None:
        for line in read_metrics(run_uri):
            if line["step"] > last_step[0]:
                last_step[0] = line["step"]
                on_report(line)

    def watch() -> None:
        while not ended.wait(REPORT_EVERY_S):
            try:
                report_new()
            except DpnError:
                continue  # storage is away for a moment; the lines stay there

    thread = threading.Thread(target=watch, name="training-reports", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    report_new()
