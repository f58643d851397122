"""Turns the events of a study into one progress bar (trials, step, loss, time left) and a line for what ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dpn_platform.cli.console import Advance

if TYPE_CHECKING:
    from dpn_platform.sweeps.events import StudyEvent

#: share of a trial's time that training takes; the rest is its start and its evaluation
_TRAINING_SHARE = 0.8
_NOTED = ("study", "note", "finished", "stopped", "failed")


class StudyProgress:
    """Called with every event; safe to be called from several threads.

    Args:
        advance: of the progress bar; its unit is a trial.
        note: prints one line.
        clock: seconds.
    """

    def __init__(
        self, advance: Advance, note: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._advance = advance
        self._note = note
        self._clock = clock
        self._running: dict[str, tuple[float, str]] = {}
        self._began: tuple[float, float] | None = None
        self._done = self._total = 0
        self._spent = ""

    def __call__(self, event: StudyEvent) -> None:
        """Show one event."""
        if event.kind in _NOTED:
            self._note(event.message)
        if event.total:
            self._done, self._total = event.done, event.total
            self._spent = f", {event.spent}" if event.spent else ""
        if event.trial is not None:
            self._follow(event)
        if self._began is None and event.kind == "started":
            self._began = (self._clock(), self._trials())
        if self._total:
            self._advance(round(self._trials(), 2), self._description(), self._total)

    def _follow(self, event: StudyEvent) -> None:
        assert event.trial is not None
        if event.kind == "started":
            self._running[event.trial] = (0.0, event.trial)
        elif event.kind == "progress":
            loss = "" if event.loss is None else f" loss {event.loss:.3f}"
            share = _TRAINING_SHARE * event.step / max(event.num_steps, 1)
            self._running[event.trial] = (share, f"{event.trial} step {event.step}/{event.num_steps}{loss}")
        else:
            self._running.pop(event.trial, None)

    def _trials(self) -> float:
        return self._done + sum(share for share, _ in list(self._running.values()))

    def _description(self) -> str:
        running = " | ".join(text for _, text in list(self._running.values())) or "between trials"
        return f"{running}{self._time_left()}{self._spent}"

    def _time_left(self) -> str:
        if self._began is None:
            return ""
        started, at_start = self._began
        gained = self._trials() - at_start
        if gained < _TRAINING_SHARE / 2:
            return ""
        seconds = (self._clock() - started) / gained * (self._total - self._trials())
        return f", about {max(1, round(seconds / 60))} min left"
