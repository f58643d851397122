"""What happens between steps besides metric lines and guards: checkpoints, and the end of a hopeless trial."""

from __future__ import annotations

from typing import Any

from dpn_platform.config.schema import EarlyStopping, TrainConfig
from dpn_platform.training.checkpoints import CheckpointWriter
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metrics import MetricsLog


class Checkpointing:
    """Saves every `checkpoint_every_steps` and at the last step; after `MetricsLog` and `NanGuard`."""

    def __init__(self, writer: CheckpointWriter, train: TrainConfig, log: MetricsLog) -> None:
        self.writer = writer
        self.train = train
        self.log = log

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Notes what was consumed; saves when it is time. Never stops the run."""
        self.writer.note(result.sample_keys)
        is_last = result.step == self.train.steps
        if not self.log.is_diverged and (is_last or result.step % self.train.checkpoint_every_steps == 0):
            self.save(engine, result.step)
        return None

    def save(self, engine: Any, step: int) -> None:
        """A checkpoint and the metric lines up to it; nothing when the step has one. Collective."""
        if step != self.writer.last_step:
            self.log.flush()
            self.writer.save(engine, step, self.log.last)


class EarlyStop:
    """Ends a hopeless trial: its mean recent `train/loss_lm` is more than `loss_margin` above the reference.

    The lines of the log are the same on every rank: all ranks agree without a collective of their own.
    """

    WINDOW = 4

    def __init__(self, rule: EarlyStopping, reference_loss: float, log: MetricsLog) -> None:
        self.log = log
        self.limit = reference_loss + rule.loss_margin
        self.grace_steps = rule.grace_steps

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Judges at every new line of the log."""
        lines = self.log.lines
        if result.step < self.grace_steps or len(lines) < self.WINDOW or lines[-1]["step"] != result.step:
            return None
        mean = sum(line["train/loss_lm"] for line in lines[-self.WINDOW :]) / self.WINDOW
        if mean <= self.limit:
            return None
        return f"mean train/loss_lm {mean:.4g} above {self.limit:.4g} at step {result.step}"
