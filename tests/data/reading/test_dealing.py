"""Dealing rows to steps and micro-batches: room is kept, the dear ones are spread, few are left out."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_platform.data.reading.dealing import deal, deal_epoch


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_the_dearest_rows_of_a_step_go_to_different_micro_batches() -> None:
    place = deal(ints(0, 0, 0, 0), ints(1, 1, 1, 1), ints(9, 1, 8, 2), bins=2, room=2)

    assert place[0] != place[2]
    assert place.tolist() == [0, 0, 1, 1]  # 9 + 1 against 8 + 2


def test_a_row_without_room_is_left_to_a_later_step() -> None:
    assert deal(ints(0, 0, 0), ints(3, 3, 3), ints(3, 2, 1), bins=2, room=4).tolist() == [0, 1, -1]


@pytest.mark.parametrize("budget", [40, 64, 200])
def test_an_epoch_places_rows_within_the_room_and_leaves_out_fewer_than_a_step_has_micro_batches(budget: int) -> None:
    size = np.random.default_rng(0).integers(1, 40, 500)
    step, micro_batch = deal_epoch(size, size, np.arange(500) % 2, bins=4, room=budget)

    placed = step >= 0
    assert (~placed).sum() < 4
    loads = np.bincount(step[placed] * 4 + micro_batch[placed], weights=size[placed])
    assert (loads <= budget).all()
    assert (loads > 0).all()  # no micro-batch of any step is empty


def test_steps_are_numbered_in_the_order_in_which_reading_completes_them() -> None:
    step, _ = deal_epoch(np.ones(60, np.int64), np.ones(60, np.int64), np.arange(60) % 3, bins=2, room=5)
    last = [int(np.flatnonzero(step == number)[-1]) for number in range(step.max() + 1)]

    assert last == sorted(last)
