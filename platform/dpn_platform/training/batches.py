"""Micro-batches of one worker: the data set's stream, split over the workers in the run's order, decoded ahead.

Global batch k is the k-th stretch of the remaining samples, whatever the number of workers, and worker r takes the
r-th micro-batch of each round; so a resumed run forms the very batches of an undisturbed one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.train.collective
import torch.distributed as dist
from ray.data import DataIterator
from ray.data._internal.execution.execution_callback import ExecutionCallback

from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.order import IntArray
from dpn_platform.data.stream import training_stream
from dpn_platform.training.loop import Batch

#: micro-batches read, and decoded, ahead of the one in use
AHEAD = 2
READERS_PER_WORKER = 2
#: pause of the reading side's scheduling loop, which turns without one while the consumer is slower than the reading
PAUSE_S = 0.02


class PacedExecution(ExecutionCallback):
    """Keeps Ray Data's scheduling loop from using a whole core beside the training (seen: 0.7 of one)."""

    def on_execution_step(self, executor: Any) -> None:
        """Called by Ray Data at every turn."""
        time.sleep(PAUSE_S)


def open_batches(config: ExperimentConfig, consumed: IntArray) -> BatchReader:
    """This worker's share of the samples that the run still has to see. Collective.

    The stream is opened by the workers and not handed to the trainer: a restarted worker group has to leave out
    what its checkpoint has consumed, and a single worker needs no coordinator process.
    """
    return BatchReader(_share(config, consumed), config.train.micro_batch_size)


class BatchReader:
    """Micro-batches of a stream in order. Reading starts at once; decoding runs in a thread, ahead of the step."""

    def __init__(self, stream: DataIterator, micro_batch_size: int) -> None:
        self._tables = iter(
            stream.iter_batches(
                batch_size=micro_batch_size, batch_format="pyarrow", prefetch_batches=AHEAD, drop_last=True
            )
        )
        # One thread: neither Ray's iterator nor a tokenizer may be shared.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._first = self._pool.submit(next, self._tables, None)

    def collated(self, collate: Callable[[pa.Table], Batch]) -> Iterator[Batch]:
        """The batches, as `collate` makes them."""

        def produce(table: pa.Table | None) -> Batch | None:
            return None if table is None else collate(table)

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


def _share(config: ExperimentConfig, consumed: IntArray) -> DataIterator:
    world_size = dist.get_world_size()
    if world_size == 1:
        return _dataset(config, consumed).iterator()
    reference: list[ray.ObjectRef] = []  # in a list: Ray would replace a bare reference by its value
    if dist.get_rank() == 0:
        # Blocks of exactly one micro-batch, dealt out in turn.
        blocks = _dataset(config, consumed).repartition(
            target_num_rows_per_block=config.train.micro_batch_size, strict=True
        )
        reference = [ray.put(blocks.streaming_split(world_size, equal=True))]
    [shares] = ray.get(ray.train.collective.broadcast_from_rank_zero(reference))
    return shares[dist.get_rank()]


def _dataset(config: ExperimentConfig, consumed: IntArray) -> ray.data.Dataset:
    train = config.train
    dataset = training_stream(
        config.data.uri,
        config.data.train_split,
        seed=train.seed,
        num_rows=train.steps * train.global_batch_size,
        consumed=consumed,
        num_readers=READERS_PER_WORKER * train.num_workers,
    )
    dataset.context.custom_execution_callback_classes = [PacedExecution]
    return dataset
