"""The order is a pure function; what remains of a run is a set difference."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Shard, Split
from dpn_platform.data.reading.order import epoch_reads, permutation, plan_reads, planned_keys


def split_of(*sizes: int, slice_rows: int = 10) -> Split:
    """A split with shards of these sizes; shards shorter than a slice leave ids unused."""
    shards = [
        Shard(
            path=f"s{index}",
            rows=rows,
            first_row_id=index * slice_rows,
            bytes=1,
            sha256=f"{index}",
            content_sha256=f"c{index}",
        )
        for index, rows in enumerate(sizes)
    ]
    return Split(rows=sum(sizes), images=0, text_only=sum(sizes), sources={}, shards=tuple(shards))


SPLIT = split_of(10, 9, 10, 4)
GOLDEN_PERMUTATION = [3, 4, 8, 0, 5, 9, 2, 6, 7, 1]
GOLDEN_EPOCH_0 = [
    16,
    17,
    12,
    13,
    18,
    10,
    11,
    15,
    14,
    5,
    6,
    1,
    4,
    7,
    8,
    3,
    0,
    2,
    9,
    25,
    20,
    22,
    24,
    28,
    27,
    29,
    26,
    21,
    23,
    32,
    33,
    31,
    30,
]
GOLDEN_EPOCH_1_HEAD = [5, 6, 8, 1, 4, 7, 3, 9, 0, 2, 31, 30]


def keys(num_rows: int, consumed: np.ndarray | None = None, seed: int = 7) -> np.ndarray:
    """Sample keys of a run in order."""
    return planned_keys(plan_reads(SPLIT, seed=seed, num_rows=num_rows, consumed=consumed), SPLIT)


def row_ids(epoch: int, seed: int = 7) -> np.ndarray:
    """Row ids of one epoch in order."""
    return planned_keys(list(epoch_reads(SPLIT, seed=seed, epoch=epoch)), SPLIT) - epoch * SPLIT.row_id_span


def test_golden_order() -> None:
    """Pinned: whoever changes these numbers changes the data order of every recorded run."""
    assert permutation(10, "golden").tolist() == GOLDEN_PERMUTATION
    assert row_ids(0).tolist() == GOLDEN_EPOCH_0
    assert row_ids(1).tolist()[:12] == GOLDEN_EPOCH_1_HEAD


def test_every_epoch_holds_every_row_once_in_another_order() -> None:
    ids = [row_ids(epoch).tolist() for epoch in range(3)]

    assert all(sorted(epoch) == [*range(19), *range(20, 34)] for epoch in ids)  # id 19 is unused: 9 rows in shard 1
    assert len({tuple(epoch) for epoch in ids}) == 3
    assert ids[0] != row_ids(0, seed=8).tolist()


def test_run_passes_from_one_epoch_to_the_next() -> None:
    span = SPLIT.row_id_span
    run = keys(80)

    assert len(run) == len(set(run.tolist())) == 80
    assert (run[:33] == row_ids(0)).all()
    assert (run[33:66] == span + row_ids(1)).all()


@pytest.mark.parametrize("done", [0, 1, 32, 33, 34, 70, 80])
def test_remaining_rows_follow_in_order(done: int) -> None:
    run = keys(80)

    assert keys(80, consumed=run[:done]).tolist() == run[done:].tolist()


def test_any_consumed_subset_leaves_the_rest_once() -> None:
    """Several workers are not at the same place: what they have consumed is no prefix."""
    run = keys(80)
    consumed = run[permutation(80, "subset")[:41]]

    assert sorted([*keys(80, consumed=consumed), *consumed]) == sorted(run)


def test_consumed_shards_are_not_read() -> None:
    reads = plan_reads(SPLIT, seed=7, num_rows=33)
    first = reads[0].sample_keys(SPLIT.row_id_span)

    assert len(plan_reads(SPLIT, seed=7, num_rows=33, consumed=first)) == len(reads) - 1


def test_consumed_samples_of_another_run_are_refused() -> None:
    with pytest.raises(DpnError, match="1 of 2 consumed samples"):
        keys(10, consumed=np.array([int(keys(10)[0]), 99999]))


def test_empty_split_is_refused() -> None:
    with pytest.raises(DpnError, match="no rows"):
        plan_reads(split_of(), seed=0, num_rows=1)
