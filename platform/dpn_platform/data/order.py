"""The order of samples, as a pure function: (seed, epoch) gives every row its place, with no state and no Ray.

A run reads the endless sequence epoch 0, epoch 1, ... In each epoch the shards are permuted and the rows
within each shard are permuted; ingestion has already spread the source's rows over the shards, so
neighbours are unrelated. A place in the sequence is named by its `sample_key = epoch * span + row_id`:
what a checkpoint saves is the keys it has consumed, and what remains of a run is a set difference,
whatever the number of workers was or will be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_platform.config.errors import DpnError
from dpn_platform.data.manifest import Shard, Split

IntArray = npt.NDArray[np.int64]


def permutation(size: int, *labels: int | str) -> IntArray:
    """A permutation of 0..size-1 that depends on the labels alone.

    It sorts the raw output of PCG64, whose stream numpy guarantees to keep; `Generator.permutation`
    carries no such promise.
    """
    seed = int.from_bytes(hashlib.sha256(repr(labels).encode()).digest(), "big")
    return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable").astype(np.int64)


@dataclass(frozen=True)
class ShardRead:
    """What to read from one shard in one epoch.

    Attributes:
        shard: the file.
        epoch: which pass over the data.
        positions: int64[n], positions in the file, in the order in which the rows are wanted.
    """

    shard: Shard
    epoch: int
    positions: IntArray

    def sample_keys(self, span: int) -> IntArray:
        """int64[n], the names of these rows in the endless sequence."""
        return self.epoch * span + self.shard.first_row_id + self.positions


def epoch_reads(split: Split, *, seed: int, epoch: int) -> Iterator[ShardRead]:
    """The reads of one whole epoch, in order."""
    for index in permutation(len(split.shards), "shards", seed, epoch):
        shard = split.shards[index]
        yield ShardRead(shard, epoch, permutation(shard.rows, "rows", seed, epoch, shard.content_sha256))


def plan_reads(
    split: Split, *, seed: int, num_rows: int, first_epoch: int = 0, consumed: IntArray | None = None
) -> list[ShardRead]:
    """The first `num_rows` places of the sequence, less those already consumed.

    Args:
        split: the split to read.
        seed: of the order.
        num_rows: length of the whole run in samples (steps x global batch size), consumed ones included.
        first_epoch: where the sequence starts.
        consumed: sample keys to leave out, in any order. Shards without a remaining row are not read.

    Raises:
        DpnError: the split is empty, or a consumed key does not belong to this run.
    """
    if split.rows == 0:
        raise DpnError("the split holds no rows: nothing to train on")
    span = split.row_id_span
    done = np.unique(np.asarray([] if consumed is None else consumed, dtype=np.int64))
    reads: list[ShardRead] = []
    wanted, recognised, epoch = num_rows, 0, first_epoch
    while wanted > 0:
        for read in epoch_reads(split, seed=seed, epoch=epoch):
            positions = read.positions[:wanted]
            wanted -= len(positions)
            is_done = np.isin(epoch * span + read.shard.first_row_id + positions, done)
            recognised += int(is_done.sum())
            if not is_done.all():
                reads.append(ShardRead(read.shard, epoch, positions[~is_done]))
            if wanted == 0:
                break
        epoch += 1
    if recognised != len(done):
        raise DpnError(
            f"{len(done) - recognised} of {len(done)} consumed samples are not among the run's {num_rows}: "
            "the checkpoint belongs to another data set, seed or length of run"
        )
    return reads


def planned_keys(reads: list[ShardRead], split: Split) -> IntArray:
    """int64[n], sample keys in the order in which the stream yields them."""
    span = split.row_id_span
    return np.concatenate([read.sample_keys(span) for read in reads] or [np.empty(0, np.int64)])


def epoch_row_ids(split: Split, *, seed: int, epoch: int) -> IntArray:
    """int64[rows], the row ids of one epoch in order, from the manifest alone."""
    reads = list(epoch_reads(split, seed=seed, epoch=epoch))
    return planned_keys(reads, split) - epoch * split.row_id_span


def steps_per_epoch(split: Split, global_batch_size: int) -> int:
    """Whole optimiser steps that one pass over the split gives (the rest opens the next epoch)."""
    return split.rows // global_batch_size
