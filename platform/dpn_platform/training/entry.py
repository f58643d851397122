"""The function that Ray Train is given, and what it is told. Imports nothing heavy.

Ray Train's controller unpickles it too, in a process of its own that lives as long as the run: with the worker's
imports (our model, transformers, DeepSpeed) at the top of this file it would start seconds later and keep their memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpn_platform.training.loop import Callback


@dataclass(frozen=True)
class WorkerSettings:
    """What the driver tells every worker.

    Attributes:
        config: as JSON values.
        reference_loss: the dense control's `train/loss_lm`; None: no early stopping.
        callbacks: the caller's, run after ours.
        code_version: of the code that started the run.
    """

    config: dict[str, Any]
    run_name: str
    run_uri: str
    reference_loss: float | None = None
    callbacks: Sequence[Callback] = ()
    code_version: str = "unknown"


def train_worker(settings: dict[str, WorkerSettings]) -> str | None:
    """Ray Train's function, called in every worker.

    Returns:
        None, or what is wrong in one line where trying again would not help (all ranks return it then).
    """
    from dpn_platform.training.worker import work

    return work(settings["settings"])
