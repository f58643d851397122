"""A dynamic method against its own routes, dealt to its samples at random: is it the dealing that gains?

Scores of the checkpoint on each of its routes tell what any dealing would have answered. The difference is to the mean
over all dealings, exactly; its interval covers both chances, other questions and another dealing: each draw takes
pictures anew, as the bootstrap does, and deals their routes among their questions anew.

Shape letters: N questions, R routes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dpn_platform.benchmarks.outcomes import Row
from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.reports.study.difference import Difference

_DRAWS = 2000


class _Benchmark(NamedTuple):
    """Scores of one benchmark: own_N as the method chose, route_N that it chose (-1: no picture), on_routes_RN."""

    own_N: npt.NDArray[np.float64]
    route_N: npt.NDArray[np.int64]
    on_routes_RN: npt.NDArray[np.float64]
    units: Sequence[npt.NDArray[np.int64]]

    def gain(self) -> float:
        """Own scores minus the mean over all dealings."""
        pictured = self.route_N >= 0
        shares = np.bincount(self.route_N[pictured], minlength=len(self.on_routes_RN)) / max(1, pictured.sum())
        expected = self.own_N.copy()
        expected[pictured] = (shares @ self.on_routes_RN)[pictured]
        return float((self.own_N - expected).mean())

    def draw(self, generator: np.random.Generator) -> float:
        """The same with other questions, and one dealing of their routes."""
        chosen = np.concatenate(
            [self.units[unit] for unit in generator.integers(len(self.units), size=len(self.units))]
        )
        own, route = self.own_N[chosen], self.route_N[chosen]
        pictured = np.flatnonzero(route >= 0)
        dealt = own.copy()
        dealt[pictured] = self.on_routes_RN[generator.permutation(route[pictured]), chosen[pictured]]
        return float((own - dealt).mean())


def gain_over_shuffled(own: Sequence[Row], on_routes: Mapping[str, Sequence[Row]], seed: int = 0) -> Difference:
    """Accuracy as the method chose minus that of its routes shuffled, the mean over benchmarks.

    Args:
        own: its outcome rows.
        on_routes: route -> outcome rows of the same checkpoint with every sample on it, for every route that it took.
        seed: of the draws.

    Raises:
        KeyError: another question than the method's own, or a route that is not there.
    """
    scored = [row for row in own if row["score"] is not None]
    parts = [
        _of_benchmark([row for row in scored if row["benchmark"] == name], on_routes)
        for name in sorted({row["benchmark"] for row in scored})
    ]
    generator = np.random.default_rng(seed)
    draws = np.array([np.mean([part.draw(generator) for part in parts]) for _ in range(_DRAWS)])
    return Difference(float(np.mean([part.gain() for part in parts])), *interval(draws))


def _of_benchmark(own: Sequence[Row], on_routes: Mapping[str, Sequence[Row]]) -> _Benchmark:
    names = list(on_routes)
    scores = [{(row["benchmark"], row["place"]): row["score"] for row in rows} for rows in on_routes.values()]
    units: dict[object, list[int]] = {}
    for number, row in enumerate(own):
        units.setdefault(number if row["unit"] is None else row["unit"], []).append(number)
    return _Benchmark(
        np.array([float(row["score"]) for row in own]),
        np.array([names.index(row["route"]) if row["has_image"] and row["route"] else -1 for row in own]),
        np.array([[float(found[row["benchmark"], row["place"]]) for row in own] for found in scores]),
        [np.array(members) for members in units.values()],
    )
