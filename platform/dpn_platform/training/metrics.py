"""The run's metric lines: averaged over ranks and steps, kept in `metrics.jsonl` of the run's folder.

An object store cannot append, so rank 0 rewrites the object: in the background while training, surely at every
checkpoint. A resumed run drops the lines behind its checkpoint and writes them again.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dpn_platform.config.schema import TrainConfig
from dpn_platform.storage import MissingObjectError, read_bytes, write_bytes
from dpn_platform.training.loop import StepResult

FILE_NAME = "metrics.jsonl"
WRITE_EVERY_S = 1.0

Line = dict[str, float]


def read_metrics(run_uri: str) -> list[Line]:
    """The run's metric lines in order of step; empty before the first."""
    try:
        text = read_bytes(f"{run_uri}/{FILE_NAME}").decode()
    except MissingObjectError:
        return []
    return [json.loads(line) for line in text.splitlines()]


class MetricsLog:
    """Callback that adds a line every `log_every_steps`, before every checkpoint and at the end.

    A line holds means over the steps since the line before. Stops the run on a loss that is not finite.

    Attributes:
        lines: of all attempts; those of this attempt are the same on every rank.
    """

    def __init__(self, run_uri: str, train: TrainConfig, start_step: int) -> None:
        self.uri = f"{run_uri}/{FILE_NAME}"
        self.train = train
        self.lines = [line for line in read_metrics(run_uri) if line["step"] <= start_step]
        self._window: list[StepResult] = []
        self._since = time.monotonic()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._written: Future[None] | None = None
        self._written_at = 0.0

    def after_step(self, engine: Any, result: StepResult) -> str | None:
        """Adds a line when it is time."""
        self._window.append(result)
        train, step = self.train, result.step
        is_checkpoint = step % train.checkpoint_every_steps == 0 or step == train.steps
        if step % train.log_every_steps and not is_checkpoint:
            return None
        line = self._summarise(engine)
        self.lines.append(line)
        if time.monotonic() - self._written_at > WRITE_EVERY_S and (self._written is None or self._written.done()):
            self._written = self._submit()
        if self.is_diverged:
            return f"train/loss is {line['train/loss']} at step {step}; lower train.lr or look at the data"
        return None

    @property
    def is_diverged(self) -> bool:
        """Whether the latest loss is not a number any more; no checkpoint is taken then."""
        return bool(self.lines) and not math.isfinite(self.lines[-1]["train/loss"])

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

    def _summarise(self, engine: Any) -> Line:
        window, elapsed = self._window, max(time.monotonic() - self._since, 1e-9)
        hinges = [hinge for result in window for hinge in result.loss_routing]
        layers, kept = _visual_tokens(window)
        local = [
            sum(float(result.loss_lm) * result.num_supervised_tokens for result in window),
            float(sum(hinges)),
            len(hinges),
            sum(result.num_tokens for result in window),
            sum(len(result.sample_keys) for result in window),
            *kept,
        ]
        weighted, hinge, num_hinges, tokens, samples, *visual = _sum_over_ranks(local, engine.device)
        line: Line = {
            "step": window[-1].step,
            "train/loss_lm": weighted / sum(result.num_supervised_tokens for result in window),
            "train/lr": float(engine.get_lr()[0]),
            "train/grad_norm": float(engine.get_global_grad_norm() or 0.0),
            "train/tokens_per_second": tokens / elapsed,
            "train/samples_per_second": samples / elapsed,
        }
        line["train/loss"] = line["train/loss_lm"]
        if num_hinges:
            line["train/loss_routing"] = hinge / num_hinges
            line["train/loss"] += engine.module.config.method_settings.routing_loss.weight * hinge / num_hinges
        for number, layer in enumerate(layers):
            before, after = visual[2 * number : 2 * number + 2]
            line[f"router/keep_ratio_layer_{layer:02d}"] = after / before if before else 1.0
        self._window, self._since = [], time.monotonic()
        return line


def _visual_tokens(window: list[StepResult]) -> tuple[tuple[int, ...], list[int]]:
    """Layers of the sites, and for each of them the visual tokens that went in and that came out."""
    reports = [report for result in window for report in result.routing]
    by_site = list(zip(*(report.records for report in reports), strict=True))
    counts = [
        sum(tokens)
        for records in by_site
        for tokens in (
            [count for record in records for count in record.tokens_in],
            [count for record in records for count in record.tokens_out],
        )
    ]
    return reports[0].sites, counts


def _sum_over_ranks(values: list[float], device: torch.device) -> list[float]:
    summed: Tensor = torch.tensor(values, dtype=torch.float64, device=device)
    if dist.get_world_size() > 1:
        dist.all_reduce(summed)
    result: list[float] = summed.tolist()
    return result
