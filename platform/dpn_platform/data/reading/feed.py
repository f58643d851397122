"""Micro-batches to several ranks: one pipeline, which one process reads and deals out in the plan's order.

Rank r takes the micro-batches r, r + world size, ... Each is handed over as one Arrow IPC buffer, which arrives in the
rank's process without a further copy. Ray Data's `streaming_split` cannot deal micro-batches of different sizes, nor
put rows into another order than that of the shards.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data._internal.execution.execution_callback import ExecutionCallback

from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.reading.batch_plan import BatchPlan
from dpn_platform.data.reading.regroup import micro_batches
from dpn_platform.data.reading.stream import planned_stream

#: blocks fetched, and micro-batches kept ready for every rank, ahead of the one in use
AHEAD = 2
#: pauses of the reading side's scheduling loop, which turns without one while the consumer is slower than the reading:
#: short until the first rows have come, then long. A turn costs about 3 ms and hands on every block that is ready
FIRST_PAUSE_S, PAUSE_S = 0.01, 0.1


class PacedExecution(ExecutionCallback):
    """Keeps Ray Data's scheduling loop from using a core beside the training (seen: 0.7 of one; 0.03 when paced)."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def on_execution_step(self, executor: Any) -> None:
        """Called by Ray Data at every turn."""
        time.sleep(self._pause_s)
        self._pause_s = min(PAUSE_S, self._pause_s * 1.1)


def local_batches(manifest: Manifest, plan: BatchPlan, *, num_readers: int) -> Iterator[pa.Table]:
    """All micro-batches of a plan in this process, in order."""
    if not plan.reads:
        return
    dataset = planned_stream(manifest, plan, num_readers=num_readers)
    dataset.context.custom_execution_callback_classes = [PacedExecution]
    blocks = dataset.iterator().iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=AHEAD)
    yield from micro_batches(blocks, plan)


class Feed:
    """The process that reads; an actor. It ends with the rank that started it.

    Ranks run in step, so that a queue of any length per rank is enough: when one is full, its rank has a micro-batch of
    every round the others wait for.
    """

    def __init__(self, manifest: Manifest, plan: BatchPlan, *, world_size: int, num_readers: int) -> None:
        self._queues: list[queue.Queue[Any]] = [queue.Queue(AHEAD) for _ in range(world_size)]
        self._batches = local_batches(manifest, plan, num_readers=num_readers)
        threading.Thread(target=self._produce, name="feed", daemon=True).start()

    def take(self, rank: int) -> pa.Buffer | None:
        """The rank's next micro-batch, None after its last."""
        content = self._queues[rank].get()
        if isinstance(content, BaseException):
            raise content
        return content

    def _produce(self) -> None:
        world_size = len(self._queues)
        end: BaseException | None = None
        try:
            for number, table in enumerate(self._batches):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, table.schema) as writer:
                    writer.write_table(table)
                self._queues[number % world_size].put(sink.getvalue())
        except Exception as error:  # every rank has to hear of it: none may wait for a micro-batch that never comes
            end = error
        for waiting in self._queues:
            waiting.put(end)


def start_feed(manifest: Manifest, plan: BatchPlan, *, world_size: int, num_readers: int) -> Any:
    """Starts the reading process on this node.

    Returns:
        Its handle, for `fed_batches`; whoever starts it keeps it alive by being alive.
    """
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    actor = ray.remote(Feed).options(num_cpus=0, scheduling_strategy=here, max_concurrency=world_size + 1)
    return actor.remote(manifest, plan, world_size=world_size, num_readers=num_readers)


def fed_batches(feed: Any, rank: int) -> Iterator[pa.Table]:
    """One rank's micro-batches; the next is on its way while one is in use."""
    coming = feed.take.remote(rank)
    while (buffer := ray.get(coming)) is not None:
        coming = feed.take.remote(rank)
        yield pa.ipc.open_stream(buffer).read_all()
