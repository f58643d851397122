"""Ray Data's settings for our datasets: order kept or not, small blocks, no progress bars of its own."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ray.data import DataContext, ExecutionOptions

#: a task emits nothing before a block is full: Ray's 128 MiB would hold back the first batch
BLOCK_BYTES = 16 * 2**20


@contextmanager
def quiet_data_context(*, preserve_order: bool) -> Iterator[None]:
    """Datasets made inside carry these settings; the process's own context is put back afterwards."""
    # What it says per dataset, and that we want no bars, would stand on the user's terminal.
    logging.getLogger("ray.data._internal.execution.streaming_executor").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setLevel(logging.CRITICAL)  # a worker's error reaches the user as one line; its pages go to the log
    ours = DataContext.get_current().copy()
    ours.execution_options = ExecutionOptions(preserve_order=preserve_order)
    ours.target_max_block_size = BLOCK_BYTES
    ours.enable_progress_bars = False
    ours.print_on_execution_start = False
    with DataContext.current(ours):
        yield
