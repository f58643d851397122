"""The disk under a worker's checkpoints: where they lie until they are uploaded, whether they fit, what was left there.

The folder is that of `tempfile`: TMPDIR of the node, else /tmp.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from dpn_platform.config.errors import DpnError

GIB = 2**30
PREFIX = "dpn-checkpoint-"
#: fp32 master and both moments of AdamW, per trained weight
OPTIMISER_BYTES = 12
# torch's writer says so little, and as a RuntimeError.
_WRITE_FAILED = re.compile(r"PytorchStreamWriter|inline_container|file write failed|unexpected pos")


def new_folder() -> Path:
    """A fresh folder of this process; `remove_leftovers` finds it once the process is gone."""
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))


def remove_leftovers() -> None:
    """Removes what killed workers left on this disk: a checkpoint may have a hundred gigabytes."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def checkpoint_bytes(model: Any, zero_stage: int, world_size: int, workers_here: int) -> int:
    """What one checkpoint takes on this node at most, in bytes.

    Args:
        model: its weights count in their own precision; what is trained has its optimiser's states beside them.
        zero_stage: from 1 on the states are cut by rank, at 3 the weights too.
        world_size: ranks of the run.
        workers_here: ranks on this node.
    """
    parameters = [(getattr(item, "ds_numel", item.numel()), item) for item in model.parameters()]
    weights = sum(count * item.element_size() for count, item in parameters)
    states = OPTIMISER_BYTES * sum(count for count, item in parameters if item.requires_grad)
    share = workers_here / world_size
    return int(weights * (share if zero_stage == 3 else 1) + states * (share if zero_stage else 1))


def space_problem(needed: int) -> str | None:
    """One line when a checkpoint of so many bytes does not fit on this node, None when it does."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"a checkpoint takes up to {needed / GIB:.2f} GiB in {folder} until it is uploaded, {free / GIB:.2f} GiB are "
        "free there: free some, or set TMPDIR of the workers to a larger disk"
    )


@contextmanager
def explained_writing(what: str, folder: Path) -> Iterator[None]:
    """Turns a failed write into one line with the folder, and removes the folder.

    Raises:
        DpnError: the disk is full, a limit is reached, or the folder cannot be written to.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _WRITE_FAILED.search(str(error)):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free
        raise DpnError(
            f"cannot write {what} to {folder.parent}: {' '.join(str(error).split())[:200]} ({free / GIB:.2f} GiB are "
            "free); free some or set TMPDIR of the workers to another disk, then start the run again: it continues at "
            "its latest checkpoint"
        ) from error
