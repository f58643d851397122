"""How fast a run is, and what it has cost: samples, tokens, milliseconds, data wait, MFU, memory, device hours.

Rates are over the time that steps took, from asking for their batches to the end of the optimiser's work; what
callbacks take (checkpoints above all) is told apart, as their share of the whole time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist

from dpn_platform.config.devices import known_peak_tflops
from dpn_platform.config.training import TrainConfig
from dpn_platform.training.loop import StepResult
from dpn_platform.training.metric_lines import DEVICE_HOURS, Line
from dpn_platform.training.metrics import Sums
from dpn_platform.training.step_flops import Passes, head_flops, step_flops

_SECONDS_PER_HOUR, _GIB = 3600, 2**30


def spent_device_hours(lines: Sequence[Line]) -> float:
    """What earlier attempts have cost, the steps included that went lost with them."""
    return max((line.get(DEVICE_HOURS, 0.0) for line in lines), default=0.0)


class Throughput:
    """Meter of speed and cost.

    Args:
        train: the recipe.
        earlier_device_hours: of earlier attempts.
        clock: seconds; the loop's.
    """

    def __init__(
        self,
        train: TrainConfig,
        earlier_device_hours: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.train = train
        self.device_hours = earlier_device_hours
        self._clock = clock
        self._since = clock()
        self._passes: Passes | None = None

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """See `Meter`."""
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)  # the host is ahead of the device: the last step's work belongs to it
        now = self._clock()
        sums: Sums = {
            "wall_s": now - self._since,
            "step_s": sum(result.ended - result.began for result in window) + now - window[-1].ended,
            "wait_s": sum(result.fetched - result.began for result in window),
            "tokens": sum(result.num_tokens for result in window),
            "samples": sum(len(result.sample_keys) for result in window),
        }
        self._since = now
        if engine.device.type == "cuda":
            # This rank's peak since the line before, in a place of its own: the sum over ranks is a list of all.
            peak = torch.cuda.max_memory_allocated(engine.device)
            torch.cuda.reset_peak_memory_stats(engine.device)
            sums |= {_memory_key(rank): peak * (rank == dist.get_rank()) for rank in range(dist.get_world_size())}
        return sums | self._flops(engine, window)

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """See `Meter`. Times are summed over ranks: device-seconds."""
        world_size = dist.get_world_size()
        device_s = max(total["step_s"], 1e-9)
        self.device_hours += total["wall_s"] / _SECONDS_PER_HOUR
        line: Line = {
            "train/samples_per_second": world_size * total["samples"] / device_s,
            "train/tokens_per_second": world_size * total["tokens"] / device_s,
            "train/step_ms": 1e3 * device_s / world_size / len(window),
            "train/data_wait_fraction": total["wait_s"] / device_s,
            "train/callbacks_fraction": max(0.0, 1 - device_s / max(total["wall_s"], 1e-9)),
            DEVICE_HOURS: self.device_hours,
            "train/flops_ratio_swiglu": _ratio(total["prefill"], total["prefill_dense"]),
            "train/flops_ratio_eq8": _ratio(total["prefill_eq8"], total["prefill_dense_eq8"]),
        }
        peak = self.train.peak_tflops
        if peak is None and engine.device.type == "cuda":
            peak = known_peak_tflops(torch.cuda.get_device_name(engine.device))
        if peak is not None and "flops" in total:
            line["train/mfu"] = total["flops"] / device_s / (peak * 1e12)
        if engine.device.type == "cuda":
            line["train/gpu_memory_gib"] = max(total[_memory_key(rank)] for rank in range(world_size)) / _GIB
        return line

    def _flops(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        if self._passes is None:
            checkpointed = self.train.activation_checkpointing
            self._passes = Passes.of(engine.module, is_checkpointed=checkpointed)
        reports = [report for result in window for report in result.routing]
        account = step_flops(reports, self._passes)
        sums: Sums = {
            "prefill": account.prefill,
            "prefill_dense": account.prefill_dense,
            "prefill_eq8": account.prefill_eq8,
            "prefill_dense_eq8": account.prefill_dense_eq8,
        }
        if account.executed is not None:
            assert reports[0].shape is not None
            # The global batch's count: this rank's share, so that the sum over ranks is the whole. Samples may have run
            # as several copies, each with the head.
            samples = sum(len(result.sample_keys) for result in window)
            copies = sum(report.num_samples for report in reports) / samples if samples else 1
            supervised = round(copies * sum(result.num_supervised_tokens for result in window))
            head = head_flops(reports[0].shape.decoder, supervised, self._passes) / dist.get_world_size()
            sums["flops"] = account.executed + head
        return sums


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _memory_key(rank: int) -> str:
    return f"memory_rank{rank}"
