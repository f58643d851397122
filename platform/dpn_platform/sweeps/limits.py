"""How far a study may go: device-hours, money, a time of day. Looked at before anything new is started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from statistics import fmean

from dpn_platform.config.sweep import StudyLimits
from dpn_platform.sweeps.trials import Trial


class Spending:
    """What a study has taken, and what it will come to.

    Args:
        limits: of the study.
        trials: gives them as they stand.
        running: device-hours of the trials that run, so far.
        num_open: gives how many are still to be started.
        now: local time.
    """

    def __init__(
        self,
        limits: StudyLimits,
        trials: Callable[[], Iterable[Trial]],
        running: Callable[[], float],
        num_open: Callable[[], int],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.limits = limits
        self._trials = trials
        self._running = running
        self._num_open = num_open
        self._now = now

    @property
    def is_limited(self) -> bool:
        """Whether the study may not go on for as long as it takes."""
        return self.limits.hours is not None or self.limits.until is not None

    @property
    def hours(self) -> float:
        """Device-hours so far."""
        return sum(trial.device_hours for trial in self._trials()) + self._running()

    @property
    def projected(self) -> float:
        """Device-hours in the end, if what is open takes as long as what has finished did."""
        return self.hours + self._num_open() * self._typical

    @property
    def _typical(self) -> float:
        done = [trial.device_hours for trial in self._trials() if trial.state == "finished" and trial.device_hours]
        return fmean(done) if done else 0.0

    def refusal(self) -> str | None:
        """Why nothing more may be started; None: it may."""
        most, until = self.limits.hours, self.limits.until
        if most is not None and (self.hours >= most or self.hours + self._typical > most):
            return f"sweep.limits: {self.hours:.2f} of {most:.2f} device-hours are spent, another trial may not fit"
        if until is not None:
            now = self._now().astimezone() if until.tzinfo else self._now()
            if now >= until:
                return f"sweep.limits: it is {until.isoformat(timespec='minutes')}"
        return None

    def line(self) -> str:
        """`0.41 device-hours, about 1.70 in all of 2.00`, for a progress line."""
        text = f"{self.hours:.2f} device-hours, about {self.projected:.2f} in all"
        if self.limits.hours is not None:
            text += f" of {self.limits.hours:.2f}"
        if self.limits.price_per_hour is not None:
            text += f" ({self.hours * self.limits.price_per_hour:.2f} spent)"
        return text
