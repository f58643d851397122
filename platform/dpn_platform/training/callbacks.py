"""What happens between steps besides metric lines and guards: checkpoints, and the early end of a trial."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

from dpn_platform.config.training import TrainConfig
from dpn_platform.training.checkpoints import CheckpointWriter
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metrics import MetricsLog
from dpn_platform.training.worker_settings import Judge


class Checkpointing:
    """Saves every `checkpoint_every_steps`, every `checkpoint_every_minutes` and at the last step.

    Comes after `MetricsLog` and `NanGuard`. Time is looked at where a metric line is written, so that no
    line is lost behind the checkpoint, and on rank 0's clock: all ranks must save at the same step.
    """

    def __init__(self, writer: CheckpointWriter, train: TrainConfig, log: MetricsLog) -> None:
        self.writer = writer
        self.train = train
        self.log = log
        self._saved_at = time.monotonic()

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Notes what was consumed; saves when it is time. Never stops the run."""
        self.writer.note(result.sample_keys)
        if not self.log.is_diverged and self._is_due(engine, result.step):
            self.save(engine, result.step)
        return None

    def save(self, engine: Any, step: int) -> None:
        """A checkpoint and the metric lines up to it, uploaded in the background. Collective."""
        self._saved_at = time.monotonic()
        self.writer.save(engine, step, self.log.last, before_upload=self.log.flush)

    def finish(self, engine: Any, step: int) -> None:
        """Have a checkpoint of this last step in storage when this returns. Collective."""
        if step != self.writer.last_step:
            self.save(engine, step)
        self.writer.place.wait()
        dist.barrier()

    def _is_due(self, engine: Any, step: int) -> bool:
        train = self.train
        if step % train.checkpoint_every_steps == 0 or step == train.steps:
            return True
        if train.checkpoint_every_minutes is None or step % train.log_every_steps:
            return False
        is_late = time.monotonic() - self._saved_at > 60 * train.checkpoint_every_minutes
        verdict = torch.tensor(int(is_late), device=engine.device)
        dist.broadcast(verdict, src=0)
        return bool(verdict)


class EarlyStop:
    """Ends a trial that its judge gives up.

    The lines of the log are the same on every rank: all ranks agree without a collective of their own.
    """

    def __init__(self, judge: Judge, log: MetricsLog) -> None:
        self.judge = judge
        self.log = log

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Asks the judge at every new line of the log."""
        lines = self.log.lines
        return self.judge(lines) if lines and lines[-1]["step"] == result.step else None
