"""What the driver tells every worker. Imports nothing heavy: the controller of Ray Train unpickles it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpn_platform.training.loop import Callback

Judge = Callable[[Sequence[dict[str, float]]], str | None]


@dataclass(frozen=True)
class WorkerSettings:
    """What the driver tells every worker.

    Attributes:
        config: as JSON values.
        judge: says of the metric lines so far whether, and why, a run ends early; None: it does not.
        reference_uri: folder of the dense control's run, whose first answers `eval/kl_dense` compares with.
        callbacks: the caller's, run after ours.
        code_version: of the code that started the run.
    """

    config: dict[str, Any]
    run_name: str
    run_uri: str
    judge: Judge | None = None
    reference_uri: str | None = None
    callbacks: Sequence[Callback] = ()
    code_version: str = "unknown"
