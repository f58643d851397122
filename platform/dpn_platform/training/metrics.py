"""The run's metric lines: averaged over ranks and steps, kept in `metrics.jsonl` of the run's folder.

What a line holds is said by meters (`loss_meter`, `throughput`, `router_monitor`); all of them share one all_reduce.
An object store cannot append, so rank 0 rewrites the object: in the background while training, surely at every
checkpoint. A resumed run drops the lines behind its checkpoint and writes them again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_platform.config.training import TrainConfig
from dpn_platform.storage import write_bytes
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metric_lines import FILE_NAME, GRAD_NORM, Line, read_metrics

WRITE_EVERY_S = 1.0

Sums = dict[str, float | Tensor]


class Meter(Protocol):
    """One part of every metric line."""

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """This rank's addends over the steps since the line before: the same keys in the same order on every rank."""

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """Metrics from the sums over all ranks."""


class MetricsLog:
    """Callback that adds a line every `log_every_steps`, before every checkpoint and at the end.

    A line holds means over the steps since the line before.

    Attributes:
        lines: of all attempts; those of this attempt are the same on every rank.
        has_bad_step: whether a step was left out because its loss or gradient was not finite.
    """

    def __init__(self, run_uri: str, train: TrainConfig, start_step: int, meters: Sequence[Meter]) -> None:
        self.uri = f"{run_uri}/{FILE_NAME}"
        self.train = train
        self.lines = [line for line in read_metrics(run_uri) if line["step"] <= start_step]
        self.meters = meters
        self.has_bad_step = False
        self._window: list[StepResult] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._written: Future[None] | None = None
        self._written_at = 0.0

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Adds a line when it is time. Never stops the run."""
        self._window.append(result)
        train, step = self.train, result.step
        is_checkpoint = step % train.checkpoint_every_steps == 0 or step == train.steps
        if step % train.log_every_steps == 0 or is_checkpoint:
            self.add_line(engine)
        return None

    def add_line(self, engine: Any) -> None:
        """A line of the steps since the one before; nothing when there are none. Collective."""
        if not self._window:
            return
        sums: Sums = {}
        for meter in self.meters:
            sums |= meter.local(engine, self._window)
        total = _sum_over_ranks(sums, engine.device)
        line: Line = {"step": self._window[-1].step}
        for meter in self.meters:
            line |= meter.line(engine, self._window, total)
        self.lines.append(line)
        self._window = []
        if time.monotonic() - self._written_at > WRITE_EVERY_S and (self._written is None or self._written.done()):
            self._written = self._submit()

    @property
    def is_diverged(self) -> bool:
        """Whether the latest loss or gradient is not a number any more; no checkpoint is taken then."""
        return self.has_bad_step or self.diverged_key is not None

    @property
    def diverged_key(self) -> str | None:
        """The metric of the latest line that is not finite and has to be; None: all is well."""
        keys = ("train/loss", GRAD_NORM)
        return next((key for key in keys if not math.isfinite(self.last.get(key, 0.0))), None)

    def flush(self) -> None:
        """Have all lines in storage when this returns.

        Raises:
            DpnError: the storage refused or could not be reached.
        """
        if dist.get_rank() == 0 and self.lines:
            self._submit().result()

    @property
    def last(self) -> Line:
        """The latest line."""
        return self.lines[-1] if self.lines else {}

    def _submit(self) -> Future[None]:
        """Writes in the background; what fails there is written again with the next line or by `flush`."""
        self._written_at = time.monotonic()
        if dist.get_rank() != 0:
            return self._writer.submit(lambda: None)
        data = "".join(json.dumps(line) + "\n" for line in self.lines).encode()
        return self._writer.submit(write_bytes, self.uri, data)


def _sum_over_ranks(sums: Sums, device: torch.device) -> dict[str, float]:
    """Sums by key, in one all_reduce and one copy to the host."""
    parts = [torch.as_tensor(value, dtype=torch.float64, device=device).reshape(()) for value in sums.values()]
    summed = torch.stack(parts)
    if dist.get_world_size() > 1:
        dist.all_reduce(summed)
    return dict(zip(sums, summed.tolist(), strict=True))
