"""A run's folder in storage, which explains itself: what was asked for, from what code and data, and what came out.

`about.py` lists the files, for people too: `about.md` in the folder is written from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import difference, dump_config, fingerprint, parse_config
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.redact import without_credentials
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.yaml_text import parse_yaml
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.storage import MissingObjectError, read_bytes, read_json, write_bytes, write_json
from dpn_platform.training.about import ABOUT, about_run

if TYPE_CHECKING:  # it brings Arrow's kernels, which who only reads a study has no use for
    from dpn_platform.data.reading.batch_plan import BatchPlan

BATCHES = "batches.json"
CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
EXPORT = "export"
OUTCOME = "outcome.json"

#: what may differ between two attempts of one run: it changes neither what is computed nor the order of samples
NOT_THE_RUN = (
    "name",
    "data.allow_unknown_answers",
    "eval",
    "pipeline",
    "storage",
    "sweep",
    "tracking",
    "train.activation_checkpointing",
    "train.checkpoint_every_minutes",
    "train.checkpoint_every_steps",
    "train.cpus_per_worker",
    "train.eval_every_steps",
    "train.eval_samples",
    "train.guards",
    "train.log_every_steps",
    "train.max_failures",
    "train.num_checkpoints_to_keep",
    "train.num_workers",
    "train.peak_tflops",
    "train.threads_per_worker",
)


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run left behind.

    Attributes:
        run_name, run_uri: the run and its folder.
        checkpoint_uri: the last checkpoint (engine state).
        export_uri: from_pretrained folder, model and processor.
        status: "finished", or "stopped" by early stopping.
        steps: optimiser steps done over all attempts.
        metrics: the last line of `metrics.jsonl`.
        resumed_from: step at which the last attempt started; 0 for a run without interruption.
        stop_reason: why it was stopped, None otherwise.
    """

    run_name: str
    run_uri: str
    checkpoint_uri: str
    export_uri: str
    status: str
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    resumed_from: int = 0
    stop_reason: str | None = None

    @property
    def loss_lm(self) -> float:
        """The last logged `train/loss_lm`, for later trials to be compared with."""
        return self.metrics["train/loss_lm"]


def run_fingerprint(config: ExperimentConfig) -> str:
    """What two attempts of one run must share."""
    return fingerprint(config, exclude=_may_differ(config))


def claim(run_uri: str, config: ExperimentConfig, data_fingerprint: str) -> None:
    """Write down what the run is, or check that it is the one that is written down.

    Raises:
        DpnError: the folder holds a run of another configuration or data set; the message shows the difference.
    """
    try:
        provenance = read_json(f"{run_uri}/{PROVENANCE}")
    except MissingObjectError:
        write_bytes(f"{run_uri}/{CONFIG}", dump_config(config).encode())
        write_bytes(f"{run_uri}/{ABOUT}", without_credentials(about_run(run_uri, config)).encode())
        identity = {"fingerprint": run_fingerprint(config), "data_fingerprint": data_fingerprint}
        write_json(f"{run_uri}/{PROVENANCE}", {**identity, "seed": config.train.seed, **manifest_of_versions()})
        return
    changes = []
    if provenance["fingerprint"] != run_fingerprint(config):
        source = f"{run_uri}/{CONFIG}"
        stored = parse_config(parse_yaml(read_bytes(source).decode(), source), source)
        free = _may_differ(config)
        keys = {line: line.partition(":")[0] for line in difference(stored, config)}
        changes = [line for line, key in keys.items() if not any(f"{key}.".startswith(f"{name}.") for name in free)]
    elif provenance["data_fingerprint"] != data_fingerprint:
        changes = [f"data set at {config.data.uri}: {provenance['data_fingerprint']} -> {data_fingerprint}"]
    if changes:
        raise DpnError(
            f"{run_uri} is a run of another configuration ({'; '.join(changes)}); "
            "choose another name, or the same configuration to resume it"
        )


def claimed_fingerprint(run_uri: str) -> str | None:
    """Of the configuration that the run's name was taken with; `claim` lets no other pass."""
    try:
        return str(read_json(f"{run_uri}/{PROVENANCE}")["fingerprint"])
    except MissingObjectError:
        return None


def record_batches(run_uri: str, config: ExperimentConfig, plan: BatchPlan) -> None:
    """Write down what the run will read, above all how many rows of its epochs no step has room for."""
    record = {
        "decode": config.data.decode,
        "left_out": plan.left_out,
        "micro_batches_per_step": plan.micro_batches_per_step,
        "passes": 1 + max((read.epoch for read in plan.reads), default=-1),
        "rows": len(plan.micro_batch),
        "steps": plan.num_steps,
    }
    write_json(f"{run_uri}/{BATCHES}", record)


def read_outcome(run_uri: str) -> TrainingOutcome | None:
    """The outcome of a complete run, None while it is not complete."""
    try:
        return TrainingOutcome(**read_json(f"{run_uri}/{OUTCOME}"))
    except MissingObjectError:
        return None


def write_outcome(outcome: TrainingOutcome) -> None:
    """Marks the run as complete."""
    write_json(f"{outcome.run_uri}/{OUTCOME}", asdict(outcome))


def _may_differ(config: ExperimentConfig) -> tuple[str, ...]:
    """Steps that are stretches of the order have the same rows however they are cut into micro-batches."""
    return (*NOT_THE_RUN, "train.micro_batch_size") if BatchSettings.of(config).is_plain else NOT_THE_RUN
