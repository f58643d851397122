"""A dynamic method against its own routes, dealt to its samples at random: is it the dealing that gains?

Scores of the checkpoint on each of its routes tell what any dealing would have answered. The difference is to the mean
over all dealings, exactly; its interval covers both chances, other questions and another dealing: each draw takes
pictures anew, as the bootstrap does, and deals their routes among their questions anew. Routes are dealt among all
samples, or among those of a group (a benchmark, a family) alone: then a method that only tells groups apart gains
nothing.

Shape letters: N questions, R routes, G groups.
"""

from __future__ import annotations

import numpy as np

from dpn_platform.reports.dynamic.table import Choice, Floats, Integers, RouteTable

_DRAWS = 2000


def gain_over_shuffled(
    table: RouteTable, choice: Choice, group_N: Integers | None = None, seed: int = 0
) -> tuple[float, Floats]:
    """Accuracy as the method chose minus that of its routes shuffled, and the same of every draw.

    Args:
        table: scores on every route.
        choice: the routes that were taken.
        group_N: samples swap routes only within their group, numbered from 0; default: among all samples.
        seed: of the draws.
    """
    group_N = np.zeros_like(choice.route_N) if group_N is None else group_N
    is_one_group = not group_N.any()
    generator = np.random.default_rng(seed)
    pictures = [_Pictures(table, place) for place in range(len(table.benchmarks))]
    on_routes_RN = table.on_routes_RN
    draws = np.empty(_DRAWS)
    for number in range(_DRAWS):
        chosen = np.concatenate([one.draw(generator) for one in pictures])
        own, route = choice.score_N[chosen], choice.route_N[chosen]
        pictured = np.flatnonzero(route >= 0)
        dealt = own.copy()
        took, where = route[pictured], chosen[pictured]
        anew = generator.permutation(took) if is_one_group else _dealt(took, group_N[where], generator)
        dealt[pictured] = on_routes_RN[anew, where]
        benchmark = table.benchmark_N[chosen]
        draws[number] = np.mean(np.bincount(benchmark, own - dealt) / np.bincount(benchmark))
    return table.mean(choice.score_N - _expected_N(choice, group_N, on_routes_RN)), draws


def _expected_N(choice: Choice, group_N: Integers, on_routes_RN: Floats) -> Floats:
    """What each question scores in the mean over all dealings."""
    pictured = np.flatnonzero(choice.route_N >= 0)
    counts_GR = np.zeros((group_N.max() + 1, len(on_routes_RN)))
    np.add.at(counts_GR, (group_N[pictured], choice.route_N[pictured]), 1.0)
    shares_GR = counts_GR / np.maximum(1.0, counts_GR.sum(axis=1, keepdims=True))
    expected_N = choice.score_N.copy()
    expected_N[pictured] = (shares_GR[group_N[pictured]].T * on_routes_RN[:, pictured]).sum(axis=0)
    return expected_N


def _dealt(route: Integers, group: Integers, generator: np.random.Generator) -> Integers:
    """The routes of every group in another order, each order as likely."""
    dealt = np.empty_like(route)
    dealt[np.argsort(group, kind="stable")] = route[np.lexsort((generator.random(len(route)), group))]
    return dealt


class _Pictures:
    """The questions of one benchmark, drawn by whole pictures."""

    def __init__(self, table: RouteTable, benchmark: int) -> None:
        members = np.flatnonzero(table.benchmark_N == benchmark)
        clusters = np.unique(table.picture_N[members], return_inverse=True)[1]
        self._ordered = members[np.argsort(clusters, kind="stable")]
        self._sizes = np.bincount(clusters)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def draw(self, generator: np.random.Generator) -> Integers:
        """As many pictures as there are, with all their questions."""
        drawn = generator.integers(len(self._sizes), size=len(self._sizes))
        sizes = self._sizes[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen: Integers = self._ordered[np.repeat(self._starts[drawn], sizes) + within]
        return chosen
