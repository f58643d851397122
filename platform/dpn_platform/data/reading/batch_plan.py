"""The plan of batches: which rows form every micro-batch of a run, before a row is read.

A pure function of (row index, seed, epoch, settings): the number of steps is known beforehand on every rank, and what
remains of a run is a set difference. The number of workers does not enter: a step is so many micro-batches, which
the ranks take in turn.

Plain batches are consecutive stretches of the endless sequence of epochs (`order`). With a token budget or grouping
by modality every epoch is planned by itself (`dealing`); its last step may be smaller, and rows too few to make one
are counted in `left_out`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Split
from dpn_platform.data.published.row_index import RowIndex
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.dealing import deal, deal_epoch
from dpn_platform.data.reading.order import (
    IntArray,
    ShardRead,
    epoch_reads,
    is_among,
    plan_reads,
    planned_keys,
    require_recognised,
    require_rows,
)
from dpn_platform.data.reading.source_weights import SourceWeights, source_weights


@dataclass(frozen=True)
class BatchPlan:
    """What a run still reads and how it is cut; about 12 bytes per row.

    Attributes:
        reads: in reading order.
        micro_batch: int32[n], for every row in reading order its micro-batch; step s has the micro-batches
            s * micro_batches_per_step and following.
        num_steps: of this plan; every rank takes as many.
        micro_batches_per_step: over all ranks.
        left_out: rows of finished epochs that could not form a step.
        span: of row ids: sample_key = pass * span + row_id.
    """

    reads: list[ShardRead]
    micro_batch: npt.NDArray[np.int32]
    num_steps: int
    micro_batches_per_step: int
    left_out: int
    span: int

    def sample_keys(self) -> IntArray:
        """int64[n], in reading order."""
        return np.concatenate([read.sample_keys(self.span) for read in self.reads] or [np.empty(0, np.int64)])


def plan_batches(
    split: Split,
    settings: BatchSettings,
    *,
    seed: int,
    index: RowIndex | None = None,
    steps: int | None = None,
    first_epoch: int = 0,
    consumed: IntArray | None = None,
) -> BatchPlan:
    """Plans a run, or what is left of it.

    Args:
        split: the split to read.
        settings: how rows become batches.
        seed: of the order.
        index: facts of the rows; wanted where `settings.needs_index`.
        steps: of the whole run, consumed ones included; default: one epoch.
        first_epoch: where the run starts.
        consumed: sample keys of earlier attempts. Whole steps leave the other steps as they were; after anything
            else the rows left in the epochs concerned are dealt anew.

    Raises:
        DpnError: the split is empty, a consumed key is not of this run, a source is unknown, or a row is longer than
            the token budget.
    """
    require_rows(split)
    weights = source_weights(split, index, settings.source_weights) if index and settings.source_weights else None
    planner = _Planner(split, settings, seed, index, weights)
    done = np.unique(np.asarray([] if consumed is None else consumed, dtype=np.int64))
    if settings.is_plain:
        return planner.plain(steps, first_epoch, done)
    return planner.by_epochs(steps, first_epoch, done)


@dataclass(frozen=True)
class _Planner:
    split: Split
    settings: BatchSettings
    seed: int
    index: RowIndex | None
    weights: SourceWeights | None

    def plain(self, steps: int | None, first_epoch: int, done: IntArray) -> BatchPlan:
        """Consecutive stretches; epochs run into each other."""
        batch, bins = self.settings.global_batch_size, self.settings.micro_batches_per_step
        num_rows = self.split.rows if steps is None else steps * batch
        if steps is None and self.weights is not None:
            epoch = epoch_reads(self.split, seed=self.seed, epoch=first_epoch, weights=self.weights)
            num_rows = sum(len(read.positions) for read in epoch)
        reads = plan_reads(
            self.split,
            seed=self.seed,
            num_rows=num_rows,
            first_epoch=first_epoch,
            consumed=done,
            weights=self.weights,
        )
        rank = np.arange(sum(len(read.positions) for read in reads))
        step = rank // batch
        if self.settings.balanced:
            cost = self._facts(planned_keys(reads, self.split)).tokens.astype(np.int64)
            place = deal(step, np.ones_like(rank), cost, bins=bins, room=self.settings.micro_batch_size)
        else:
            rows_in_step = np.minimum(batch, len(rank) - step * batch)
            place = (rank % batch) * bins // rows_in_step
        last = len(rank) % batch
        if 0 < last < bins:
            step[-last:] = -1
        return self._plan([(reads, step, place)], last if last < bins else 0)

    def by_epochs(self, steps: int | None, first_epoch: int, done: IntArray) -> BatchPlan:
        """Every epoch by itself."""
        parts, left_out, recognised, missing = [], 0, 0, steps
        for epoch in itertools.count(first_epoch):
            reads = list(epoch_reads(self.split, seed=self.seed, epoch=epoch, weights=self.weights))
            keys = planned_keys(reads, self.split)
            step, place = self._deal(keys)
            num_steps = int(step.max(initial=-1)) + 1
            if num_steps == 0:
                raise DpnError(
                    f"an epoch of {len(keys)} rows is less than one step of "
                    f"{self.settings.micro_batches_per_step} micro-batches"
                )
            if missing is not None and num_steps > missing:
                step[step >= missing] = -1
            else:
                left_out += int((step < 0).sum())
            is_done = is_among(keys, done) & (step >= 0)
            recognised += int(is_done.sum())
            step, place, lost = self._without(keys, step, place, is_done)
            left_out += lost
            parts.append((reads, step, place))
            missing = 0 if missing is None else missing - num_steps
            if missing <= 0:
                break
        require_recognised(recognised, len(done))
        return self._plan(parts, left_out)

    def _without(
        self, keys: IntArray, step: IntArray, place: IntArray, is_done: npt.NDArray[np.bool_]
    ) -> tuple[IntArray, IntArray, int]:
        """The steps that are left of an epoch, and how many rows that loses."""
        rest = (step >= 0) & ~is_done
        untouched = ~np.isin(step, np.unique(step[is_done]))
        if (untouched | ~rest).all():
            return np.where(rest, step, -1), place, 0
        new_step, new_place = np.full(len(keys), -1), np.full(len(keys), -1)
        new_step[rest], new_place[rest] = self._deal(keys[rest])
        return new_step, new_place, int((new_step[rest] < 0).sum())

    def _deal(self, keys: IntArray) -> tuple[IntArray, IntArray]:
        """(step, micro-batch in the step) of an epoch's rows in reading order."""
        settings, facts = self.settings, self._facts(keys)
        tokens = facts.tokens.astype(np.int64)
        size, room = np.ones(len(keys), np.int64), settings.micro_batch_size
        if settings.tokens_per_batch is not None:
            size, room = tokens, settings.tokens_per_batch
            if size.max(initial=0) > room:
                row = int(keys[size.argmax()] % self.split.row_id_span)
                raise DpnError(
                    f"data.tokens_per_batch {room}: row {row} alone has {size.max()} tokens, "
                    f"the longest of the split; at least {size.max()} is needed"
                )
        group = facts.has_image.astype(np.int64) if settings.by_modality else np.zeros(len(keys), np.int64)
        return deal_epoch(size, tokens, group, bins=settings.micro_batches_per_step, room=room)

    def _facts(self, keys: IntArray) -> RowIndex:
        """The index's values of these samples, in their order."""
        if self.index is None:
            raise ValueError("these settings need a row index")
        ids, index = keys % self.split.row_id_span, self.index
        tokens = np.maximum(index.tokens[ids], 1)
        return RowIndex(index.has_image[ids], tokens, index.source[ids], index.sources)

    def _plan(self, parts: list[tuple[list[ShardRead], IntArray, IntArray]], left_out: int) -> BatchPlan:
        """Numbers the steps through and leaves out the rows without one."""
        bins, num_steps = self.settings.micro_batches_per_step, 0
        reads: list[ShardRead] = []
        batches: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
        for part, step, place in parts:
            start = 0
            for read in part:
                stop = start + len(read.positions)
                kept = step[start:stop] >= 0
                if kept.any():
                    reads.append(ShardRead(read.shard, read.epoch, read.positions[kept]))
                start = stop
            kept = step >= 0
            names, number = np.unique(step[kept], return_inverse=True)
            batches.append(((num_steps + number) * bins + place[kept]).astype(np.int32))
            num_steps += len(names)
        return BatchPlan(reads, np.concatenate(batches), num_steps, bins, left_out, self.split.row_id_span)
