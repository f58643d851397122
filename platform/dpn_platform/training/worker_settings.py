"""What the driver tells every worker. Imports nothing heavy: the controller of Ray Train unpickles it too."""

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
