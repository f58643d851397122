"""Shards to a Ray Data stream of rows in a determined order, and nothing that was already consumed.

Each block of the dataset is one planned read (`order.ShardRead`); a task reads the shard, takes the rows in
the planned order and passes encoded pictures on: decoding happens in the consumer (`collate`). The plan is
made here and not by `read_parquet`, which merges files into blocks as it sees fit and silently drops a
path that occurs twice, as every shard does in a run of several epochs.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.schema import with_optional
from dpn_platform.data.reading.batch_plan import BatchPlan
from dpn_platform.data.reading.order import IntArray, ShardRead
from dpn_platform.data.reading.ray_context import quiet_data_context
from dpn_platform.storage import MissingObjectError, open_uri, with_retries

#: reading is waiting: several reads share a CPU, and a busy cluster still finds room for one
READ_CPUS = 0.25
SLICE_ROWS = 256


@dataclass(frozen=True)
class _Task:
    uri: str
    read: ShardRead
    span: int


def planned_stream(manifest: Manifest, plan: BatchPlan, *, num_readers: int | None = None) -> ray.data.Dataset:
    """The rows of a plan in its reading order, for `regroup.micro_batches`.

    Args:
        manifest: of the data set that was planned for.
        plan: of a run, or of what is left of it.
        num_readers: shards read at a time at most; default: as many as the cluster has room for, which on a small
            machine starts more processes than it has cores.

    Returns:
        A dataset with the columns of `schema.SHARD_SCHEMA` and `schema.OPTIONAL`, `epoch` and `sample_key`.
    """
    return _dataset(manifest, plan.span, plan.reads, num_readers)


def split_dataset(
    manifest: Manifest, split: str, *, limit: int | None = None, num_readers: int | None = None
) -> ray.data.Dataset:
    """A split in the order of its row ids, for evaluation; `limit` rows are a fair sample of it.

    Raises:
        DpnError: no such split.
    """
    chosen, reads = manifest.split(split), []
    rest = chosen.rows if limit is None else limit
    for shard in chosen.shards:
        if rest <= 0:
            break
        reads.append(ShardRead(shard, 0, np.arange(min(shard.rows, rest), dtype=np.int32)))
        rest -= shard.rows
    return _dataset(manifest, chosen.row_id_span, reads, num_readers)


def read_rows(uri: str, positions: IntArray | npt.NDArray[np.int32]) -> pa.Table:
    """Rows of one shard, in the order given, with all columns of `schema.OPTIONAL`; reads only their row groups.

    Raises:
        DpnError: the shard is not what the manifest says (missing, or too short), or cannot be read.
    """
    location = open_uri(uri)

    def read() -> tuple[pa.Table, IntArray]:
        with pq.ParquetFile(location.path, filesystem=location.filesystem, pre_buffer=True) as file:
            rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            if len(positions) and sum(rows) <= int(positions.max()):
                raise DpnError(f"{uri}: {sum(rows)} rows, the manifest says more; see `dpn data verify`")
            ends = np.cumsum(rows)
            group = np.searchsorted(ends, positions, side="right")
            wanted = np.unique(group)
            # Rows that are not read shift those behind them.
            skipped = np.cumsum(np.where(np.isin(np.arange(len(rows)), wanted), 0, rows))
            places = np.asarray(positions, np.int64) - skipped[group].astype(np.int64)
            return file.read_row_groups(wanted.tolist()), places

    try:
        table, places = with_retries("read", location, read)
    except MissingObjectError as error:
        raise DpnError(f"{uri}: the manifest names this shard, but it is missing; see `dpn data verify`") from error
    return with_optional(table.take(pa.array(places)))


def _dataset(manifest: Manifest, span: int, reads: Sequence[ShardRead], num_readers: int | None) -> ray.data.Dataset:
    tasks = [_Task(manifest.shard_uri(read.shard), read, span) for read in reads]
    items = [{"task": pickle.dumps(task)} for task in tasks]
    with quiet_data_context(preserve_order=True):
        plan = ray.data.from_items(items, override_num_blocks=len(items) or None)
        return plan.map_batches(
            _read_batch,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(size=num_readers),
        )


def _read_batch(batch: pa.Table) -> Iterator[pa.Table]:
    for item in batch.column("task"):
        task: _Task = pickle.loads(item.as_py())
        table = read_rows(task.uri, task.read.positions)
        table = table.append_column("epoch", pa.array(np.full(table.num_rows, task.read.epoch)))
        table = table.append_column("sample_key", pa.array(task.read.sample_keys(task.span)))
        for start in range(0, table.num_rows, SLICE_ROWS):
            yield table.slice(start, SLICE_ROWS)
