"""Measures on the held-out split while training goes on, with the routes an answer would take.

    eval/loss_lm        mean cross entropy of answer tokens
    eval/exact          share of rows of which every answer token is the most likely one: greedy decoding would write it
    eval/kl_dense       mean KL divergence of the first answer token from what the dense control's last step says there
    eval/flops_ratio    of the decoder's prefill, as the rows ran

Answers are scored by `dpn_platform.evaluation`, after training; these are the early signs of a run that learns its rows
by heart, and what a study's rungs judge a trial by (`sweep.early_stopping`). They draw no random number that a step
uses, so a run with them and one without have the same losses.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor

from dpn_model import DpnOutput
from dpn_model.cost.flops import Convention
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.data.reading.order import IntArray
from dpn_platform.data.reading.stream import read_rows
from dpn_platform.storage import MissingObjectError, read_bytes, write_bytes
from dpn_platform.training.loop import IGNORE_INDEX, Batch, StepResult, to_device
from dpn_platform.training.metric_lines import EXACT, HELD_OUT_LOSS, KL_DENSE, PREFILL_RATIO, Line
from dpn_platform.training.metrics import Sums

#: in the dense control's folder: log-probabilities of the first answer tokens of the held-out rows, float16[N, C]
FIRST_ANSWERS = "first_answers.npy"

Collate = Callable[[pa.Table], Batch]


class HeldOut:
    """Meter of `eval/...`, where it is due: in lines at `steps`, every `every` steps, and then in the last.

    Args:
        num_steps: of the run.
        every: None: at `steps` alone.
        read_batches: this rank's collated micro-batches; called once, when the first measure is due. All ranks must
            have equally many.
        steps: further ones.
        convention: of the FLOPs ratio.
        teacher: the dense control's `first_answers` of this rank's rows, float[N, C]; None: there is none.
        keep: told this rank's own at the last step; collective.
    """

    def __init__(
        self,
        num_steps: int,
        every: int | None,
        read_batches: Callable[[], Sequence[Batch]],
        *,
        steps: Sequence[int] = (),
        convention: Convention = "swiglu",
        teacher: Callable[[], Tensor | None] = lambda: None,
        keep: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.num_steps, self.every, self.steps = num_steps, every, frozenset(steps)
        self.convention: Convention = convention
        self._read_batches, self._read_teacher, self._keep = read_batches, teacher, keep

    @cached_property
    def batches(self) -> Sequence[Batch]:
        """Kept on the host: they are used again and again."""
        return self._read_batches()

    @cached_property
    def teacher(self) -> Tensor | None:
        """Kept on the host, too."""
        return self._read_teacher()

    def local(self, engine: Any, window: Sequence[StepResult]) -> Sums:
        """See `Meter`."""
        step = window[-1].step
        if not self._is_due(step):
            return {}
        model, first = engine.module, []
        sums = dict.fromkeys(("loss", "tokens", "right", "rows", "macs", "uncut"), 0.0)
        head: list[Tensor] = []
        hook = model.lm_head.register_forward_hook(lambda module, inputs, logits: head.append(logits))
        model.eval()
        try:
            with torch.no_grad():
                for batch in self.batches:
                    out: DpnOutput = model(**to_device(batch, engine.device, model.lm_head.weight.dtype))
                    first.append(_add(sums, out, head[0], batch["labels"], self.convention))
                    head.clear()
        finally:
            model.train()
            hook.remove()
        found: Sums = {f"held_out_{name}": value for name, value in sums.items()}
        firsts = torch.cat(first) if first else torch.zeros(0)
        if self.teacher is not None:
            teacher = self.teacher.to(firsts)
            found["held_out_kl"] = float((teacher.exp() * (teacher - firsts)).nan_to_num().sum())
        if self._keep is not None and step == self.num_steps:
            self._keep(firsts)
        return found

    def line(self, engine: Any, window: Sequence[StepResult], total: Mapping[str, float]) -> Line:
        """See `Meter`."""
        if not total.get("held_out_tokens"):
            return {}
        rows = total["held_out_rows"]
        line = {HELD_OUT_LOSS: total["held_out_loss"] / total["held_out_tokens"], EXACT: total["held_out_right"] / rows}
        if total["held_out_uncut"]:
            line[PREFILL_RATIO] = total["held_out_macs"] / total["held_out_uncut"]
        if "held_out_kl" in total:
            line[KL_DENSE] = total["held_out_kl"] / rows
        return line

    def _is_due(self, step: int) -> bool:
        is_last = step == self.num_steps and bool(self.every or self.steps)
        return is_last or step in self.steps or (self.every is not None and step % self.every == 0)


def _add(
    sums: dict[str, float], out: DpnOutput, logits_RC: Tensor, labels_BS: Tensor, convention: Convention
) -> Tensor:
    """Adds a batch to the sums; log-probabilities of its rows' first answer tokens, float32[B, C], NaN without any.

    R: supervised tokens, row after row, as the head sees them.
    """
    assert out.loss_lm is not None
    assert out.routing is not None
    is_answer = labels_BS[:, 1:] != IGNORE_INDEX
    counts = is_answer.sum(dim=1)
    wanted = labels_BS[:, 1:][is_answer].to(logits_RC.device)
    is_right = torch.split((logits_RC.argmax(dim=-1) == wanted).cpu(), counts.tolist())
    sums["loss"] += float(out.loss_lm.double()) * len(wanted)
    sums["tokens"] += len(wanted)
    sums["right"] += sum(bool(row.all()) for row in is_right if len(row))
    sums["rows"] += int((counts > 0).sum())
    for sample in range(out.routing.num_samples if out.routing.shape is not None else 0):
        cost = out.routing.prefill_cost(sample, convention)
        sums["macs"], sums["uncut"] = sums["macs"] + cost.total, sums["uncut"] + cost.dense
    first_BC = torch.full((len(counts), logits_RC.shape[1]), torch.nan)
    starts = (counts.cumsum(0) - counts)[counts > 0]
    first_BC[counts > 0] = logits_RC[starts.to(logits_RC.device)].float().log_softmax(dim=-1).cpu()
    return first_BC


def read_held_out(config: ExperimentConfig, collate: Collate) -> list[Batch]:
    """This rank's share of the first `train.eval_samples` held-out rows, as many micro-batches on every rank."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    places = np.arange(rank, _num_rows(config), world_size)
    return list(batches_of(config, config.data.eval_split, places, collate))


def _num_rows(config: ExperimentConfig) -> int:
    """Held-out rows that are measured: as many on every rank."""
    rows, ranks = load_manifest(config.data.uri).split(config.data.eval_split).rows, dist.get_world_size()
    return min(config.train.eval_samples, rows) // ranks * ranks


def keep_first_answers(run_uri: str, mine: Tensor) -> None:
    """Rank 0 writes the first answers of all ranks into the run's folder, in the order of the split. Collective."""
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine.half().numpy())
    if dist.get_rank() == 0:
        whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float16)
        for rank, part in enumerate(parts):
            whole[rank :: len(parts)] = part
        buffer = io.BytesIO()
        np.save(buffer, whole)
        write_bytes(f"{run_uri}/{FIRST_ANSWERS}", buffer.getvalue())


def first_answers_at(run_uri: str, config: ExperimentConfig) -> Tensor | None:
    """Those of this rank's rows that another run has kept, float16[N, C]. Collective: rank 0 reads.

    Returns:
        None where it has kept none, or of other rows than these.
    """
    found: list[Any] = [None]
    if dist.get_rank() == 0:
        with suppress(MissingObjectError):
            found = [np.load(io.BytesIO(read_bytes(f"{run_uri}/{FIRST_ANSWERS}")))]
    dist.broadcast_object_list(found, src=0)
    whole = found[0]
    if whole is None or len(whole) != _num_rows(config):
        return None
    return torch.from_numpy(whole[dist.get_rank() :: dist.get_world_size()].copy())


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
