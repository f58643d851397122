"""What happens around the loop: metric lines, checkpoints, guards. Every callback runs on every rank."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import TrainConfig
from dpn_platform.storage import write_bytes
from dpn_platform.training.checkpoints import CheckpointWriter
from dpn_platform.training.loop import StepResult


class MetricsLog:
    """Averages over ranks every `log_every_steps` and keeps the lines of this attempt in the run's folder.

    Rank 0 rewrites `metrics/<first step>.jsonl` at every line: an object store cannot append, and the file is small.
    """

    def __init__(self, run_uri: str, train: TrainConfig, start_step: int) -> None:
        self.train = train
        self.uri = f"{run_uri}/metrics/{start_step:08d}.jsonl"
        self.lines: list[dict[str, float]] = []
        self._since = time.monotonic()
        self._tokens = 0

    def after_step(self, engine: Any, result: StepResult) -> bool:
        self._tokens += result.num_tokens
        if result.step % self.train.log_every_steps and result.step != self.train.steps:
            return False
        line = {"step": float(result.step), **self._averages(engine, result)}
        self.lines.append(line)
        if dist.get_rank() == 0:
            write_bytes(self.uri, "".join(json.dumps(row) + "\n" for row in self.lines).encode())
        if not math.isfinite(line["train/loss_lm"]):
            raise DpnError(
                f"step {result.step}: train/loss_lm is {line['train/loss_lm']}; lower train.lr, or look at the batch "
                f"of samples {result.sample_keys[:4]}..."
            )
        return False

    @property
    def last_loss(self) -> float:
        """The last global `train/loss_lm`; the same on every rank."""
        return self.lines[-1]["train/loss_lm"] if self.lines else math.nan

    def _averages(self, engine: Any, result: StepResult) -> dict[str, float]:
        elapsed = max(time.monotonic() - self._since, 1e-9)
        keep = _keep_ratios(result)
        local = [result.loss_lm, result.loss_routing or 0.0, self._tokens / elapsed, *keep.values()]
        summed = torch.tensor(local, dtype=torch.float64)
        dist.all_reduce(summed)
        loss_lm, hinge, tokens_per_second, *kept = summed.tolist()
        world = dist.get_world_size()
        self._since, self._tokens = time.monotonic(), 0
        averages = {
            "train/loss_lm": loss_lm,
            "train/tokens_per_second": tokens_per_second,
            "train/lr": float(engine.get_lr()[0]),
            "train/grad_norm": float(engine.get_global_grad_norm() or 0.0),
            **{name: value / world for name, value in zip(keep, kept, strict=True)},
        }
        if result.loss_routing is not None:
            averages["train/loss_routing"] = hinge / world
        return averages


def _keep_ratios(result: StepResult) -> dict[str, float]:
    """Kept / original visual tokens of this step, per site."""
    ratios: dict[str, list[float]] = {}
    for report in result.routing:
        for record in report.records:
            ratios.setdefault(f"router/keep_ratio_layer_{record.layer:02d}", []).append(record.keep_ratio)
    return {name: sum(values) / len(values) for name, values in ratios.items()}


class Checkpointing:
    """Saves every `checkpoint_every_steps` and at the last step."""

    def __init__(self, writer: CheckpointWriter, train: TrainConfig, log: MetricsLog) -> None:
        self.writer = writer
        self.train = train
        self.log = log

    def after_step(self, engine: Any, result: StepResult) -> bool:
        self.writer.note(result.sample_keys)
        if result.step % self.train.checkpoint_every_steps == 0 or result.step == self.train.steps:
            self.writer.save(engine, result.step, self.log.last_loss)
        return False


class EarlyStop:
    """Ends a hopeless trial: its loss is above `loss_ratio` times the reference after the grace period.

    The loss is the mean of the last lines of the log, which is the same on every rank: all ranks agree without a
    collective of their own.
    """

    WINDOW = 4

    def __init__(self, log: MetricsLog, *, reference_loss: float, loss_ratio: float, grace_steps: int) -> None:
        self.log = log
        self.limit = reference_loss * loss_ratio
        self.grace_steps = grace_steps
        self.is_stopped = False

    def after_step(self, engine: Any, result: StepResult) -> bool:
        recent: Sequence[dict[str, float]] = self.log.lines[-self.WINDOW :]
        if result.step < self.grace_steps or len(recent) < self.WINDOW:
            return False
        self.is_stopped = sum(line["train/loss_lm"] for line in recent) / len(recent) > self.limit
        return self.is_stopped
