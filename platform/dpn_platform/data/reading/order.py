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
from dpn_platform.data.published.manifest import Shard, Split
from dpn_platform.data.reading.source_weights import SourceWeights

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
        epoch: which pass over the data (with source weights an epoch takes several, see `source_weights`).
        positions: int32[n], positions in the file, in the order in which the rows are wanted.
    """

    shard: Shard
    epoch: int
    positions: npt.NDArray[np.int32]

    def sample_keys(self, span: int) -> IntArray:
        """int64[n], the names of these rows in the endless sequence."""
        return np.int64(self.epoch * span + self.shard.first_row_id) + self.positions


def epoch_reads(split: Split, *, seed: int, epoch: int, weights: SourceWeights | None = None) -> Iterator[ShardRead]:
    """The reads of one whole epoch, in order."""
    passes = weights.passes_per_epoch if weights else 1
    draw = permutation(split.row_id_span, "weights", seed, epoch) if weights else np.empty(0, np.int64)
    for number in range(epoch * passes, (epoch + 1) * passes):
        chosen = weights.chosen(number, draw) if weights else None
        for index in permutation(len(split.shards), "shards", seed, number):
            shard = split.shards[index]
            positions = permutation(shard.rows, "rows", seed, number, shard.content_sha256).astype(np.int32)
            if chosen is not None:
                positions = positions[chosen[shard.first_row_id + positions]]
            if len(positions):
                yield ShardRead(shard, number, positions)


def plan_reads(
    split: Split,
    *,
    seed: int,
    num_rows: int,
    first_epoch: int = 0,
    consumed: IntArray | None = None,
    weights: SourceWeights | None = None,
) -> list[ShardRead]:
    """The first `num_rows` places of the sequence, less those already consumed.

    Args:
        split: the split to read.
        seed: of the order.
        num_rows: length of the whole run in samples (steps x global batch size), consumed ones included.
        first_epoch: where the sequence starts.
        consumed: sample keys to leave out, in any order. Shards without a remaining row are not read.
        weights: of the sources; default: every row once in an epoch.

    Raises:
        DpnError: the split is empty, or a consumed key does not belong to this run.
    """
    require_rows(split)
    span = split.row_id_span
    done = np.unique(np.asarray([] if consumed is None else consumed, dtype=np.int64))
    reads: list[ShardRead] = []
    wanted, recognised, epoch = num_rows, 0, first_epoch
    while wanted > 0:
        for read in epoch_reads(split, seed=seed, epoch=epoch, weights=weights):
            read = ShardRead(read.shard, read.epoch, read.positions[:wanted])
            wanted -= len(read.positions)
            is_done = is_among(read.sample_keys(span), done)
            recognised += int(is_done.sum())
            if not is_done.all():
                reads.append(ShardRead(read.shard, read.epoch, read.positions[~is_done]))
            if wanted == 0:
                break
        epoch += 1
    require_recognised(recognised, len(done))
    return reads


def is_among(keys: IntArray, ascending: IntArray) -> npt.NDArray[np.bool_]:
    """bool[n]: which keys occur in a sorted array."""
    if not len(ascending):
        return np.zeros(len(keys), bool)
    place = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return ascending[place] == keys


def require_rows(split: Split) -> None:
    """Refuses an empty split.

    Raises:
        DpnError: it holds no rows.
    """
    if split.rows == 0:
        raise DpnError("the split holds no rows: nothing to train on")


def require_recognised(recognised: int, consumed: int) -> None:
    """Refuses a checkpoint whose samples are not the run's.

    Raises:
        DpnError: some of the consumed samples were not met in the plan of the run.
    """
    if recognised != consumed:
        raise DpnError(
            f"{consumed - recognised} of {consumed} consumed samples are not among the run's: "
            "the checkpoint belongs to another data set, seed or length of run"
        )


def planned_keys(reads: list[ShardRead], split: Split) -> IntArray:
    """int64[n], sample keys in the order in which the stream yields them."""
    span = split.row_id_span
    return np.concatenate([read.sample_keys(span) for read in reads] or [np.empty(0, np.int64)])
