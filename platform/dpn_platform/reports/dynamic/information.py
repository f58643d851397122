"""How much a route tells of what was asked: mutual information with family, benchmark and picture, in bits.

Counted on few samples per group, it is above zero by chance alone (with pictures of one question each, it is all of the
route's entropy). So the same is counted with the routes dealt anew among the samples, again and again: what chance
gives, and how often it gives as much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpn_platform.reports.dynamic.table import Choice, Floats, Integers, RouteTable

_DEALINGS = 200


class Information(NamedTuple):
    """`bits` as counted, `by_chance` of the dealt routes' mean, `p_value` of as much by chance."""

    bits: float
    by_chance: float
    p_value: float


def entropy(counts: Floats | Integers) -> float:
    """Of a distribution given as counts of any shape, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # no minus zero


def mutual_information(route: Integers, group: Integers) -> float:
    """Between two labels of the same samples, each numbered from 0; in bits."""
    num = int(route.max()) + 1
    together = np.bincount(group * num + route)
    return entropy(np.bincount(route)) + entropy(np.bincount(group)) - entropy(together)


def information_of(table: RouteTable, choice: Choice, seed: int = 0) -> dict[str, Information]:
    """What is known -> information of the route on it, over samples with a picture; nothing of what has one value."""
    pictured = np.flatnonzero(choice.route_N >= 0)
    route, generator = choice.route_N[pictured], np.random.default_rng(seed)
    labels = {"family": table.family_N, "benchmark": table.benchmark_N, "picture": table.picture_N}
    found = {}
    for name, label_N in labels.items():
        group = np.unique(label_N[pictured], return_inverse=True)[1]
        # A picture with one question says no more than the question does.
        if len(pictured) == 0 or not 0 < group.max() < len(pictured) - 1:
            continue
        bits = mutual_information(route, group)
        chance = np.array([mutual_information(generator.permutation(route), group) for _ in range(_DEALINGS)])
        as_much = int((chance >= bits - 1e-12).sum())
        found[name] = Information(bits, float(chance.mean()), (1 + as_much) / (1 + _DEALINGS))
    return found


def entropy_of_routes(choice: Choice) -> float:
    """Of the routes taken: 0 where all samples take one, log2 of their number where they are taken alike."""
    taken = choice.route_N[choice.route_N >= 0]
    return entropy(np.bincount(taken)) if len(taken) else 0.0
