"""One training run, from a configuration to an exported checkpoint: `run_training`.

A run is its name: started again under the same name and storage it continues from its latest checkpoint, and a
finished one returns its outcome at once. Its folder explains itself: config.yaml, provenance.json, metrics/,
step_*/ (checkpoints), export/ (from_pretrained) and outcome.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import ray.data
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import difference, dump_config, fingerprint, parse_config
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.manifest import load_manifest
from dpn_platform.data.stream import train_data_config, training_stream
from dpn_platform.storage import exists, list_files, open_uri, read_bytes, read_json, write_bytes, write_json
from dpn_platform.training.checkpoints import consumed_samples, latest_checkpoint
from dpn_platform.training.worker import train_worker

OUTCOME = "outcome.json"
CONFIG = "config.json"
#: what may differ between two attempts of one run
NOT_THE_RUN = ("name", "storage", "tracking", "eval", "sweep")


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run left behind.

    Attributes:
        run_name, run_uri: the run and its folder.
        export_uri: from_pretrained folder, model and processor.
        checkpoint_uri: latest checkpoint (engine state).
        status: "finished", or "stopped" by early stopping.
        steps: optimiser steps done over all attempts.
        loss_lm: the last logged `train/loss_lm`.
        resumed_from: step at which this attempt started; 0 for a fresh run.
    """

    run_name: str
    run_uri: str
    export_uri: str
    checkpoint_uri: str | None
    status: str
    steps: int
    loss_lm: float
    resumed_from: int = 0


def run_training(
    config: ExperimentConfig,
    *,
    run_name: str,
    callbacks: tuple[UserCallback, ...] = (),
    reference_loss: float | None = None,
) -> TrainingOutcome:
    """Train, or continue, or return what is finished. Ray must be initialised.

    Args:
        config: the experiment; `sweep.early_stopping` applies where `reference_loss` is given.
        run_name: identity of the run under `storage.runs_uri`.
        callbacks: Ray Train's, run in the controller once per checkpoint.
        reference_loss: the dense control's `train/loss_lm`, for early stopping.

    Raises:
        DpnError: the name is taken by a run of another configuration, the data set is missing or too small, or
            training failed.
    """
    run_uri = f"{config.storage.runs_uri}/{run_name}"
    _claim(run_uri, config)
    if exists(f"{run_uri}/{OUTCOME}"):
        return TrainingOutcome(**read_json(f"{run_uri}/{OUTCOME}"))
    manifest = load_manifest(config.data.uri)
    manifest.split(config.data.train_split)
    resumed_from = _step_of(latest_checkpoint(run_uri))
    settings = {"config": config.model_dump(mode="json"), "run_uri": run_uri, "reference_loss": reference_loss}
    result = _trainer(config, run_name, run_uri, settings, callbacks).fit()
    if result.error is not None:
        raise DpnError(f"run {run_name} failed: {_root_cause(result.error)}") from result.error
    final = result.return_value or {}
    outcome = TrainingOutcome(
        run_name=run_name,
        run_uri=run_uri,
        export_uri=f"{run_uri}/export",
        checkpoint_uri=latest_checkpoint(run_uri),
        status=final["status"],
        steps=final["steps"],
        loss_lm=final["loss_lm"],
        resumed_from=resumed_from,
    )
    write_json(f"{run_uri}/{OUTCOME}", asdict(outcome))
    return outcome


def read_metrics(run_uri: str) -> list[dict[str, Any]]:
    """The run's metric lines in order of step; where attempts overlap, the later one counts."""
    lines = {line["step"]: line for uri in list_files(f"{run_uri}/metrics", ".jsonl") for line in _lines(uri)}
    return [lines[step] for step in sorted(lines)]


def _lines(uri: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in read_bytes(uri).decode().splitlines())


def _trainer(
    config: ExperimentConfig,
    run_name: str,
    run_uri: str,
    settings: dict[str, Any],
    callbacks: tuple[UserCallback, ...],
) -> TorchTrainer:
    train, storage = config.train, open_uri(config.storage.runs_uri)
    resources = {"CPU": train.cpus_per_worker, **({"GPU": 1} if train.use_gpu else {})}
    return TorchTrainer(
        train_worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=train.num_workers, use_gpu=train.use_gpu, resources_per_worker=resources
        ),
        torch_config=TorchConfig(backend="nccl" if train.use_gpu else "gloo"),
        # Called again for every worker group: a restarted one gets the rows that are still to be seen.
        datasets={"train": partial(_remaining_rows, config.model_dump(mode="json"), run_uri)},
        dataset_config=train_data_config(),
        run_config=RunConfig(
            name=run_name,
            storage_path=storage.path,
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=train.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=train.num_checkpoints_to_keep),
            callbacks=list(callbacks),
        ),
    )


def _remaining_rows(values: dict[str, Any], run_uri: str) -> ray.data.Dataset:
    config = ExperimentConfig.model_validate(values)
    return training_stream(
        config.data.uri,
        config.data.train_split,
        seed=config.train.seed,
        num_rows=config.train.steps * config.train.global_batch_size,
        consumed=consumed_samples(run_uri),
    )


def _claim(run_uri: str, config: ExperimentConfig) -> None:
    """Write what explains the run; refuse another configuration under the same name."""
    if exists(f"{run_uri}/{CONFIG}"):
        stored = parse_config(read_json(f"{run_uri}/{CONFIG}"), f"{run_uri}/{CONFIG}")
        if fingerprint(stored, NOT_THE_RUN) != fingerprint(config, NOT_THE_RUN):
            changed = [line for line in difference(stored, config) if not line.startswith(NOT_THE_RUN)]
            raise DpnError(
                f"run {run_uri.rsplit('/', 1)[1]} exists with another configuration ({'; '.join(changed)}); "
                "choose another name, or the same configuration to resume"
            )
        return
    write_json(f"{run_uri}/provenance.json", {"fingerprint": fingerprint(config), **manifest_of_versions()})
    write_bytes(f"{run_uri}/config.yaml", dump_config(config).encode())
    write_json(f"{run_uri}/{CONFIG}", config.model_dump(mode="json"))


def _step_of(checkpoint_uri: str | None) -> int:
    return int(checkpoint_uri.rsplit("_", 1)[1]) if checkpoint_uri else 0


def _root_cause(error: BaseException) -> str:
    """The last line of what a worker raised: Ray wraps it in several layers of its own."""
    failures = getattr(error, "worker_failures", None)
    inner = next(iter(failures.values())) if failures else error
    return str(inner).strip().splitlines()[-1]
