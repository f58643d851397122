"""The Pareto front of every draw at once: who is on it, its hypervolume, its knee, the best under a budget.

What `evaluation/pareto.py` says of one front, for thousands of them. Points lie ordered by cost, of equal cost the most
accurate first; that is done once, and whatever is asked afterwards walks along that order.

Shape letters: P points, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_platform.benchmarks.statistics.pictures import Floats, Integers

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnFronts:
    """Accuracies and costs of all points in every draw, ordered by cost.

    Attributes:
        place_PR: which point stands there.
        accuracy_PR, cost_PR: of the point that stands there.
        fresh_PR: its accuracy on what the draw left out, which had no part in choosing it.
        front_PR: whether no other point dominates it.
    """

    place_PR: Integers
    accuracy_PR: Floats
    cost_PR: Floats
    fresh_PR: Floats
    front_PR: Flags

    @classmethod
    def of(cls, accuracy_PR: Floats, cost_PR: Floats, fresh_PR: Floats) -> DrawnFronts:
        """From accuracies and costs that are all finite, points in any order."""
        place_PR = np.lexsort((-accuracy_PR, cost_PR), axis=0)
        accuracy_PR = np.take_along_axis(accuracy_PR, place_PR, axis=0)
        cost_PR = np.take_along_axis(cost_PR, place_PR, axis=0)
        fresh_PR = np.take_along_axis(fresh_PR, place_PR, axis=0)
        best_PR = np.maximum.accumulate(accuracy_PR, axis=0)
        # Equal on both axes to the point that set the height: a tie, and on the front with it.
        setter_PR = _setters(accuracy_PR)
        front_PR = (accuracy_PR == best_PR) & (cost_PR == np.take_along_axis(cost_PR, setter_PR, axis=0))
        return cls(place_PR, accuracy_PR, cost_PR, fresh_PR, front_PR)

    def membership(self) -> Flags:
        """Whether each point is on the front, (P, R), points as they were given."""
        found = np.empty_like(self.front_PR)
        np.put_along_axis(found, self.place_PR, self.front_PR, axis=0)
        return found

    def volumes(self, cost: float, known_P: Flags | None = None) -> tuple[Floats, Floats]:
        """The hypervolume up to this cost from accuracy 0, (R,); and the same staircase's on what the draw left out.

        Args:
            cost: of the corner.
            known_P: points as they were given; others are left out as if they were not there.
        """
        known_PR = np.ones_like(self.front_PR) if known_P is None else known_P[self.place_PR]
        setter_PR = _setters(np.where(known_PR, self.accuracy_PR, -np.inf))
        is_any_PR = np.take_along_axis(known_PR, setter_PR, axis=0)
        width_PR = np.diff(np.minimum(self.cost_PR, cost), axis=0, append=cost) * is_any_PR
        inside, outside = (
            (width_PR * np.take_along_axis(values, setter_PR, axis=0)).sum(axis=0)
            for values in (self.accuracy_PR, self.fresh_PR)
        )
        return inside, outside

    def best_under(self, cost: float) -> Integers:
        """The most accurate point that costs no more, (R,), points as they were given; -1 where all are dearer."""
        return self._last(self.front_PR & (self.cost_PR <= cost))

    def knees(self) -> Integers:
        """The point farthest above the line between the front's ends, (R,); -1 where none is above it."""
        draws = np.arange(self.front_PR.shape[1])
        first = self.front_PR.argmax(axis=0)
        last = len(self.front_PR) - 1 - self.front_PR[::-1].argmax(axis=0)
        width = self.cost_PR[last, draws] - self.cost_PR[first, draws]
        height = self.accuracy_PR[last, draws] - self.accuracy_PR[first, draws]
        is_line = (width > 0) & (height > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            across_PR = (self.cost_PR - self.cost_PR[first, draws]) / width
            above_PR = (self.accuracy_PR - self.accuracy_PR[first, draws]) / height - across_PR
        above_PR = np.where(self.front_PR & is_line, above_PR, -np.inf)
        above_PR[first, draws] = above_PR[last, draws] = -np.inf
        best = above_PR.argmax(axis=0)
        return np.where(above_PR[best, draws] > 0, self.place_PR[best, draws], -1)

    def _last(self, chosen_PR: Flags) -> Integers:
        """The dearest of the chosen, of ties the first."""
        draws = np.arange(chosen_PR.shape[1])
        heights_PR = np.where(chosen_PR, self.accuracy_PR, -np.inf)
        best = heights_PR.argmax(axis=0)
        return np.where(chosen_PR[best, draws], self.place_PR[best, draws], -1)


def _setters(height_PR: Floats) -> Integers:
    """Which place set the greatest height so far; the first of all before anything has one."""
    before_PR = np.maximum.accumulate(height_PR, axis=0)[:-1]
    is_new_PR = np.vstack([np.zeros((1, height_PR.shape[1]), dtype=bool), height_PR[1:] > before_PR])
    return np.maximum.accumulate(np.where(is_new_PR, np.arange(len(height_PR))[:, None], 0), axis=0)
