"""Turns the metric lines of a run into the text beside its bar: loss, tokens kept, speed, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from dpn_platform.cli.console import Advance

#: key, how it is shown; what a line lacks is left out
_SHOWN: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("train/loss", lambda value: f"loss {value:.3f}"),
    ("router/keep_ratio", lambda value: f"keeps {value:.0%}"),
    ("train/samples_per_second", lambda value: f"{short(value)} samples/s"),
    ("train/tokens_per_second", lambda value: f"{short(value)} tokens/s"),
    ("train/mfu", lambda value: f"MFU {value:.0%}"),
    ("train/data_wait_fraction", lambda value: f"data wait {value:.0%}"),
)


class TrainProgress:
    """Called with every metric line, those of earlier attempts first.

    Args:
        advance: of the progress bar; its unit is a step.
        num_steps: of the whole run.
        clock: seconds.
    """

    def __init__(self, advance: Advance, num_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._advance = advance
        self._num_steps = num_steps
        self._clock = clock
        self._first: tuple[float, float] | None = None

    def __call__(self, line: Mapping[str, float]) -> None:
        """Show one line."""
        parts = [show(line[key]) for key, show in _SHOWN if key in line]
        left = self._time_left(line["step"])
        self._advance(int(line["step"]), ", ".join([*parts, *([f"{left} left"] if left else [])]))

    def _time_left(self, step: float) -> str | None:
        """From the pace since the first line that was seen in the making; None before the second."""
        now = self._clock()
        if self._first is None or now - self._first[1] < 0.5:
            # Lines of earlier attempts come all at once: the last of them is where this attempt began.
            self._first = (step, now)
            return None
        began, since = self._first
        if step <= began:
            return None
        return duration((self._num_steps - step) * (now - since) / (step - began))


def short(value: float) -> str:
    """Three digits or so: 0.42, 31, 2.4k, 1.2M."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def duration(seconds: float) -> str:
    """Time for people: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
