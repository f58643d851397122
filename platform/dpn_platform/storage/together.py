"""Many small objects at once: a study is thousands of them, and each costs a round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: round trips under way together; more only queue at the server
AT_ONCE = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def together(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` on every item, several under way at a time; results in the order of the items.

    Raises:
        Exception: what `work` raised first; what has not begun then is left.
    """
    waiting = list(items)
    if len(waiting) < 2:
        return [work(item) for item in waiting]
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="storage")
    try:
        return list(pool.map(work, waiting))
    finally:
        pool.shutdown(cancel_futures=True)
