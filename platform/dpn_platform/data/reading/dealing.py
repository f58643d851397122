"""Which rows form a step and which micro-batch each goes to: array arithmetic, no state, no object per row.

Rows are taken in reading order within their group (all rows, or pictures and texts apart as LLaVA does: spec
base-models B.4), so a step is complete soon after its first row and little has to be held back while streaming.
Within a step the dearest row goes first, each to the micro-batch with the least expected cost that has room.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

#: steps dealt at a time; bounds the memory of the table of loads
_CHUNK_STEPS = 4096
_FULL = np.iinfo(np.int64).max


def deal_epoch(size: IntArray, cost: IntArray, group: IntArray, *, bins: int, room: int) -> tuple[IntArray, IntArray]:
    """Forms the steps of one epoch.

    Full steps come from one group each; what the groups leave over is joined, and an epoch's last step may be
    smaller. Fewer rows than a step has micro-batches cannot be a step: so many rows at most are left out.

    Args:
        size: int64[n], what a row takes of a micro-batch's room (1 row, or its tokens); none is above `room`.
        cost: int64[n], expected cost, positive.
        group: int64[n].
        bins: micro-batches in a step.
        room: of a micro-batch, in the unit of `size`.

    Returns:
        int64[n] each, in reading order: the row's step, counted in the order in which reading completes the steps (-1:
        left out), and its micro-batch within the step.
    """
    step, micro_batch = np.full(len(size), -1), np.full(len(size), -1)
    num_steps, pending = 0, np.arange(len(size))
    for is_joined in (False, True):
        groups = np.zeros_like(group) if is_joined else group
        placed = True
        # A token budget sends some rows, the small ones, to a later step: they go round again.
        while placed:
            placed = False
            for number in np.unique(groups[pending]):
                rows = pending[groups[pending] == number]
                segment = (np.cumsum(size[rows]) - size[rows]) // (bins * room)
                full = int(size[rows].sum()) // (bins * room)
                rows, segment = rows[segment < full], segment[segment < full]
                micro_batch[rows] = deal(segment, size[rows], cost[rows], bins=bins, room=room)
                step[rows] = np.where(micro_batch[rows] >= 0, num_steps + segment, -1)
                num_steps += full
                placed = placed or full > 0
            pending = pending[step[pending] < 0]
    while len(pending) >= bins:
        zeros = np.zeros(len(pending), np.int64)
        micro_batch[pending] = deal(zeros, size[pending], cost[pending], bins=bins, room=room)
        step[pending] = np.where(micro_batch[pending] >= 0, num_steps, -1)
        num_steps += 1
        pending = pending[step[pending] < 0]
    return _by_completion(step, num_steps), micro_batch


def deal(step: IntArray, size: IntArray, cost: IntArray, *, bins: int, room: int) -> IntArray:
    """int64[n]: micro-batch of each row within its step, -1 where none has room.

    All steps advance together: the k-th dearest row of every step is placed in one sweep.

    Args:
        step: int64[n], 0-based, none empty.
        size, cost, bins, room: as in `deal_epoch`.
    """
    result = np.full(len(step), -1)
    order = np.lexsort((-cost, step))
    ends = np.cumsum(np.bincount(step)) if len(step) else np.empty(0, np.int64)
    for first in range(0, len(ends), _CHUNK_STEPS):
        stop = ends[first : first + _CHUNK_STEPS]
        start = np.concatenate([[ends[first - 1] if first else 0], stop[:-1]])
        _deal_chunk(result, order, start, stop, size, cost, bins, room)
    return result


def _deal_chunk(
    result: IntArray,
    order: IntArray,
    start: IntArray,
    stop: IntArray,
    size: IntArray,
    cost: IntArray,
    bins: int,
    room: int,
) -> None:
    loads, taken = np.zeros((len(start), bins), np.int64), np.zeros((len(start), bins), np.int64)
    for place in range(int((stop - start).max())):
        active = np.flatnonzero(start + place < stop)
        rows = order[start[active] + place]
        has_room = taken[active] + size[rows, None] <= room
        best = np.where(has_room, loads[active], _FULL).argmin(axis=1)
        fits = has_room[np.arange(len(active)), best]
        rows, best, active = rows[fits], best[fits], active[fits]
        loads[active, best] += cost[rows]
        taken[active, best] += size[rows]
        result[rows] = best


def _by_completion(step: IntArray, num_steps: int) -> IntArray:
    """The steps renumbered by the place of their last row."""
    last = np.full(num_steps, -1)
    placed = np.flatnonzero(step >= 0)
    np.maximum.at(last, step[placed], placed)
    number = np.empty(num_steps, np.int64)
    number[np.argsort(last, kind="stable")] = np.arange(num_steps)
    result = np.full(len(step), -1)
    result[placed] = number[step[placed]]
    return result
