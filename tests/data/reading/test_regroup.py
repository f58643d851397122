"""Rows in reading order come out as the planned micro-batches, whatever pieces they arrive in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Split
from dpn_platform.data.published.row_index import RowIndex
from dpn_platform.data.reading.batch_plan import BatchPlan, plan_batches
from dpn_platform.data.reading.batch_settings import BatchSettings
from dpn_platform.data.reading.regroup import micro_batches


@pytest.fixture(scope="module")
def plan(planned_set: Callable[..., tuple[Split, RowIndex]]) -> BatchPlan:
    split, index = planned_set(400)
    return plan_batches(split, BatchSettings(4, 4, tokens_per_batch=4096, by_modality=True), seed=1, index=index)


def pieces(plan: BatchPlan, size: int) -> list[pa.Table]:
    keys = plan.sample_keys()
    table = pa.table({"sample_key": keys, "image": [b"%d" % key for key in keys.tolist()]})
    return [table.slice(first, size) for first in range(0, len(keys), size)]


@pytest.mark.parametrize("size", [1, 7, 400])
def test_micro_batches_are_the_planned_ones(plan: BatchPlan, size: int) -> None:
    found = list(micro_batches(pieces(plan, size), plan))

    assert len(found) == plan.num_steps * plan.micro_batches_per_step
    for number, table in enumerate(found):
        assert table["sample_key"].to_pylist() == plan.sample_keys()[plan.micro_batch == number].tolist()
        assert table["image"].to_pylist() == [b"%d" % key for key in table["sample_key"].to_pylist()]


def test_little_waits(plan: BatchPlan) -> None:
    """Rows read and not yet given out: a few steps, not the epoch."""
    read = given = waiting = 0

    def reading() -> object:
        nonlocal read
        for table in pieces(plan, 1):
            read += 1
            yield table

    for table in micro_batches(reading(), plan):
        given += table.num_rows
        waiting = max(waiting, read - given)
    assert waiting < 90  # measured: 62 of 400; a step has about 22 rows


def test_another_stream_is_refused(plan: BatchPlan) -> None:
    tables = pieces(plan, 50)
    with pytest.raises(DpnError, match="other rows than planned, at sample 0"):
        list(micro_batches(tables[::-1], plan))
    with pytest.raises(DpnError, match=f"ended after 50 of {len(np.unique(plan.sample_keys()))}"):
        list(micro_batches(tables[:1], plan))
