"""The best static mixture at a method's mean cost: what a coin does with fixed routes that know no sample.

At most two fixed things, drawn with shares so that their mean cost is the method's, or one cheaper thing by itself. The
best of all is taken, by the same questions that it is measured on: its choice is fitted to them, the method's is not,
which favours the mixture. The interval of the difference is paired and keeps the mixture's two parts as they are; their
shares follow each draw's costs along the line between them.

Shape letters: N questions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dpn_platform.benchmarks.statistics.mixtures import best_mixture
from dpn_platform.reports.dynamic.table import Choice, Fixed, Floats, RouteTable


class Mixture(NamedTuple):
    """Shares by name, expected score_N and cost_N, and the accuracy that a unit of cost is worth along it."""

    shares: Mapping[str, float]
    score_N: Floats
    cost_N: Floats
    slope: float


def static_mixture(table: RouteTable, cost: float, rivals: Sequence[Fixed]) -> Mixture | None:
    """The best mixture of `rivals` at no more than this mean cost; None where all are dearer, or costs are unknown."""
    costs = [float(rival.cost_N.mean()) for rival in rivals]
    if not all(map(math.isfinite, [cost, *costs])):
        return None
    accuracies = [table.mean(rival.score_N) for rival in rivals]
    chosen = best_mixture(cost, costs, accuracies)
    if chosen is None:
        return None
    below, above = chosen[0][0], chosen[-1][0]
    rise = 0.0 if above == below else (accuracies[above] - accuracies[below]) / (costs[above] - costs[below])
    return Mixture(
        {rivals[place].name: share for place, share in chosen},
        np.sum([share * rivals[place].score_N for place, share in chosen], axis=0),
        np.sum([share * rivals[place].cost_N for place, share in chosen], axis=0),
        rise,
    )


def gain_over_mixture(table: RouteTable, choice: Choice, mixture: Mixture, seed: int) -> tuple[float, Floats]:
    """Accuracy of the method minus the mixture's, and the same of every draw.

    A draw in which the method costs more than here allows the mixture more as well: `slope` times the difference.
    """
    difference_N = choice.score_N - mixture.score_N
    dearer_N = choice.cost_N - mixture.cost_N
    if len(mixture.shares) > 1:  # costs are a mean over questions, accuracies one over benchmarks
        difference_N = difference_N - mixture.slope * dearer_N / (table.weight_N * len(dearer_N))
    return table.mean(choice.score_N - mixture.score_N), table.draws(difference_N, seed)
