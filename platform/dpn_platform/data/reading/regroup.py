"""Rows as they are read to micro-batches as they were planned.

Rows arrive in reading order; a row whose micro-batch is not complete waits. Steps are numbered by completion, so that
what waits is a step or two of each modality, whatever the size of the data set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from dpn_platform.config.errors import DpnError
from dpn_platform.data.reading.batch_plan import BatchPlan


def micro_batches(tables: Iterable[pa.Table], plan: BatchPlan) -> Iterator[pa.Table]:
    """The plan's micro-batches in order, rows in reading order.

    Args:
        tables: the rows of `plan.reads` in that order, in pieces of any size, with a column `sample_key`.

    Raises:
        DpnError: a row arrives that is not the planned one, or rows are missing: the stream is not of this plan.
    """
    sizes = np.bincount(plan.micro_batch, minlength=plan.num_steps * plan.micro_batches_per_step)
    expected = plan.sample_keys()
    waiting: dict[int, list[pa.Table]] = {}
    arrived = np.zeros_like(sizes)
    start = following = 0
    for table in tables:
        stop = start + table.num_rows
        if not np.array_equal(table["sample_key"].to_numpy(), expected[start:stop]):
            raise DpnError(f"the stream brought other rows than planned, at sample {start} of {len(expected)}")
        for number, part in _parts(table, plan.micro_batch[start:stop]):
            waiting.setdefault(number, []).append(part)
            arrived[number] += part.num_rows
        while following < len(sizes) and arrived[following] == sizes[following]:
            yield pa.concat_tables(waiting.pop(following))
            following += 1
        start = stop
    if start != len(expected):
        raise DpnError(f"the stream ended after {start} of {len(expected)} samples")


def _parts(table: pa.Table, micro_batch: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """(micro-batch, its rows), without a copy where they lie together."""
    order = np.argsort(micro_batch, kind="stable")
    numbers, firsts = np.unique(micro_batch[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True):
        is_together = rows[-1] - rows[0] + 1 == len(rows)
        yield number, table.slice(rows[0], len(rows)) if is_together else table.take(pa.array(rows))
