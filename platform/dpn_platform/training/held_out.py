"""Loss on the held-out split while training goes on: `eval/loss_lm`, with the routes an answer would take.

Answers are scored by `dpn_platform.evaluation`, after training; this is the early sign of a run that learns its rows by
heart. It draws no random number that a step uses, so a run with it and one without have the same losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from dpn_model import DpnOutput
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.training import TrainConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.data.reading.order import IntArray
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.training.loop import Batch, StepResult, to_device
from dpn_platform.training.metric_lines import Line
from dpn_platform.training.metrics import Sums

Collate = Callable[[pa.Table], Batch]


class HeldOutLoss:
    """Meter of `eval/loss_lm`, in the lines whose step is a multiple of `train.eval_every_steps`, and in the last.

    Args:
        train: the recipe.
        read_batches: this rank's collated micro-batches; called once, when the first loss is due. All ranks must have
            equally many.
    """

    def __init__(self, train: TrainConfig, read_batches: Callable[[], Sequence[Batch]]) -> None:
        self.train = train
        self._read_batches = read_batches

    @cached_property
    def batches(self) -> Sequence[Batch]:
        """Kept on the host: they are used again and again."""
        return self._read_batches()

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """See `Meter`."""
        if not self._is_due(window[-1].step):
            return {}
        model, loss, tokens = engine.module, torch.zeros((), dtype=torch.float64, device=engine.device), 0
        model.eval()
        try:
            with torch.no_grad():
                for batch in self.batches:
                    out: DpnOutput = model(**to_device(batch, engine.device, model.lm_head.weight.dtype))
                    assert out.loss_lm is not None
                    assert out.num_supervised_tokens is not None
                    loss += out.loss_lm.double() * out.num_supervised_tokens
                    tokens += out.num_supervised_tokens
        finally:
            model.train()
        return {"held_out_loss": loss, "held_out_tokens": tokens}

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """See `Meter`."""
        if not total.get("held_out_tokens"):
            return {}
        return {"eval/loss_lm": total["held_out_loss"] / total["held_out_tokens"]}

    def _is_due(self, step: int) -> bool:
        every = self.train.eval_every_steps
        return every is not None and (step % every == 0 or step == self.train.steps)


def read_held_out(config: ExperimentConfig, collate: Collate) -> list[Batch]:
    """This rank's share of the first `train.eval_samples` held-out rows, as many micro-batches on every rank."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    split = config.data.eval_split
    limit = min(config.train.eval_samples, load_manifest(config.data.uri).split(split).rows) // world_size * world_size
    return list(batches_of(config, split, np.arange(rank, limit, world_size), collate))


def batches_of(config: ExperimentConfig, split: str, places: IntArray, collate: Collate) -> Iterator[Batch]:
    """Some rows of a split as micro-batches, in its order."""
    tables = list(_rows(config, split, places))
    if not tables:
        return
    rows, size = pa.concat_tables(tables), config.train.micro_batch_size
    for start in range(0, rows.num_rows, size):
        yield collate(rows.slice(start, size))


def _rows(config: ExperimentConfig, split: str, places: IntArray) -> Iterator[pa.Table]:
    manifest = load_manifest(config.data.uri)
    before = 0
    for shard in manifest.split(split).shards:
        mine = places[(places >= before) & (places < before + shard.rows)] - before
        if len(mine):
            table = read_rows(manifest.shard_uri(shard), mine.astype(np.int32))
            yield table.append_column("sample_key", table.column("row_id"))
        before += shard.rows
