"""What happens in a study, told to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dpn_platform.config.errors import DpnError

Kind = Literal["study", "started", "progress", "finished", "stopped", "failed", "note"]


@dataclass(frozen=True)
class StudyEvent:
    """One thing that happened.

    Attributes:
        kind: "study": it begins or goes on; "note": a remark; the others are about a trial.
        message: one line for people.
        trial: key of the trial.
        step, num_steps: of its training, for "progress".
        loss: its latest `train/loss_lm`.
        done, total: trials settled, and trials in all.
        spent: what the study has taken so far, for a progress line.
    """

    kind: Kind
    message: str
    trial: str | None = None
    step: int = 0
    num_steps: int = 0
    loss: float | None = None
    done: int = 0
    total: int = 0
    spent: str = ""


OnEvent = Callable[[StudyEvent], None]


@dataclass
class StopSign:
    """Why a study cannot go on; looked at in every round of the driver's loop.

    Attributes:
        reason: None while it can.
        is_taken_over: another driver has the study now; nothing of it may be written any more.
    """

    reason: str | None = None
    is_taken_over: bool = False

    def take_over(self) -> None:
        """Called when the lease is lost."""
        self.reason = "another driver has taken the study over"
        self.is_taken_over = True

    def check(self) -> None:
        """Raises DpnError once there is a reason."""
        if self.reason is not None:
            raise DpnError(self.reason)
