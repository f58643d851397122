"""Micro-batches of one worker: its share of the plan, read by Ray Data and decoded ahead of the step.

Step k has the same rows whatever the number of workers, and worker r takes the r-th micro-batch of each round; so a
resumed run forms the very batches of an undisturbed one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray.train.collective
import torch.distributed as dist

from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import DataConfig, ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.data.reading.batch_plan import BatchPlan
from dpn_platform.data.reading.collate import DamagedRowError
from dpn_platform.data.reading.feed import AHEAD, fed_batches, local_batches, start_feed
from dpn_platform.data.reading.order import IntArray
from dpn_platform.training.loop import Batch
from dpn_platform.training.run_plan import plan_run

READERS_PER_WORKER = 2
_MEND = (
    "the shard has changed since it was ingested (`dpn data verify` finds all such rows): put it back, for example by "
    "the same `dpn data ingest` with --fresh, which writes the same bytes; started again, the run continues at its "
    "latest checkpoint"
)


def open_batches(config: ExperimentConfig, consumed: IntArray, *, start_step: int) -> BatchReader:
    """This worker's share of the samples that the run still has to see. Collective.

    The stream is opened by the workers and not handed to the trainer: a restarted worker group has to leave out
    what its checkpoint has consumed, and a single worker needs no process beside it.

    Raises:
        DpnError: the data set, its settings or the consumed samples do not fit the run.
    """
    world_size = dist.get_world_size()
    readers = READERS_PER_WORKER * config.train.num_workers
    if world_size == 1:
        manifest, plan = _remaining(config, consumed, start_step)
        return BatchReader(local_batches(manifest, plan, num_readers=readers), config.data)
    feeds: list[Any] = []
    if dist.get_rank() == 0:
        manifest, plan = _remaining(config, consumed, start_step)
        feeds = [start_feed(manifest, plan, world_size=world_size, num_readers=readers)]
    [feed] = ray.train.collective.broadcast_from_rank_zero(feeds)
    return BatchReader(fed_batches(feed, dist.get_rank()), config.data)


def _remaining(config: ExperimentConfig, consumed: IntArray, start_step: int) -> tuple[Manifest, BatchPlan]:
    manifest = load_manifest(config.data.uri)
    plan = plan_run(config, manifest, consumed)
    if plan.num_steps != config.train.steps - start_step:
        raise DpnError(
            f"the checkpoint of step {start_step} names {len(consumed)} consumed samples, which leave {plan.num_steps} "
            f"of {config.train.steps} steps"
        )
    return manifest, plan


def _shard_of(data: DataConfig, row_id: int) -> str:
    manifest = load_manifest(data.uri)
    for shard in manifest.split(data.train_split).shards:
        if 0 <= row_id - shard.first_row_id < shard.rows:
            return manifest.shard_uri(shard)
    return data.uri


class BatchReader:
    """Micro-batches in order. Reading starts at once; decoding runs in a thread, ahead of the step."""

    def __init__(self, tables: Iterator[pa.Table], data: DataConfig) -> None:
        self._tables = tables
        self._data = data
        # One thread: neither the iterator nor a tokenizer may be shared.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._first = self._pool.submit(next, self._tables, None)

    def collated(self, collate: Callable[[pa.Table], Batch]) -> Iterator[Batch]:
        """The batches, as `collate` makes them.

        Raises:
            DpnError: a row is damaged; the line names it and its shard. Ingest has decoded every picture: bytes that
                have changed since are mended, not skipped.
        """

        def produce(table: pa.Table | None) -> Batch | None:
            try:
                return None if table is None else collate(table)
            except DamagedRowError as error:
                raise DpnError(f"{_shard_of(self._data, error.row_id)}: {error}; {_MEND}") from error

        pending = deque([self._pool.submit(lambda: produce(self._first.result()))])
        try:
            while True:
                while len(pending) <= AHEAD:
                    pending.append(self._pool.submit(lambda: produce(next(self._tables, None))))
                batch = pending.popleft().result()
                if batch is None:
                    return
                yield batch
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
