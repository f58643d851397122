"""What could have been gained: routes chosen by who knows the outcomes, at the method's own mean cost.

Choosing a route for every question by its outcome is an upper bound no method reaches: where outcomes are partly luck,
it picks the lucky ones. A route per family, chosen on half of the pictures and measured on the others, is free of that:
it is what knowing the family alone is worth. Both are told as gains over the best static mixture at equal mean cost.

Shape letters: N questions, R routes, G groups.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dpn_platform.benchmarks.statistics.mixtures import best_mixture
from dpn_platform.reports.dynamic.static_mixture import Mixture
from dpn_platform.reports.dynamic.table import Choice, Floats, RouteTable

_HALVINGS, _STEPS = 20, 60
_SAME = 1e-9


def tie_rate(table: RouteTable) -> float:
    """Share of the questions with the same score on every route: no route is right or wrong for them."""
    on_routes_RN = table.on_routes_RN
    return table.mean((on_routes_RN == on_routes_RN[0]).all(axis=0).astype(float))


def per_sample_gain(table: RouteTable, choice: Choice, mixture: Mixture) -> float:
    """Of the best route for every question, known from its outcomes: an upper bound."""
    score_RN, cost_RN = table.on_routes_RN * table.weight_N, table.cost_RN / len(table.weight_N)
    shares_RN = best_allocation(score_RN, cost_RN, choice.cost)
    return float((shares_RN * score_RN).sum()) - table.mean(mixture.score_N)


def per_family_gain(table: RouteTable, choice: Choice, seed: int = 0) -> float | None:
    """Of a route per family, chosen on half of the pictures and measured on the others; the mean over many halvings.

    Each half is held against the best static mixture at the method's cost there, or at that of the routes where it came
    out higher. None where all questions are of one family.
    """
    if len(table.families) < 2:
        return None
    generator = np.random.default_rng(seed)
    gains = []
    for _ in range(_HALVINGS):
        in_first_N = generator.permutation(table.num_pictures)[table.picture_N] % 2 == 0
        for fitted_N in (in_first_N, ~in_first_N):
            gains.append(_measured(table, choice, fitted_N))
    known = [gain for gain in gains if gain is not None]
    return float(np.mean(known)) if known else None


def best_allocation(score_RG: Floats, cost_RG: Floats, budget: float) -> Floats:
    """Shares of the routes in each group that score most at no more than this cost.

    A price per unit of cost decides for every group alike; it is halved in until the costs meet the budget, and the two
    allocations on both sides of it are mixed. Beyond rounding, nothing scores more.

    Args:
        score_RG, cost_RG: what each group adds to the mean score and the mean cost on each route.
        budget: mean cost that is allowed; one below the cheapest routes' gets these.
    """

    def at(price: float) -> npt.NDArray[np.int64]:
        worth = score_RG - price * cost_RG
        # Of equal worth the cheapest: ties are most of the questions.
        is_best = worth >= worth.max(axis=0) - 1e-12
        places: npt.NDArray[np.int64] = np.where(is_best, cost_RG, np.inf).argmin(axis=0)
        return places

    def cost_of(places_G: npt.NDArray[np.int64]) -> float:
        return float(np.take_along_axis(cost_RG, places_G[None], axis=0).sum())

    dear, cheap = at(0.0), cost_RG.argmin(axis=0)
    if cost_of(dear) <= budget + _SAME:
        return _one_hot(dear, len(score_RG))
    low, high = 0.0, 2 * (np.ptp(score_RG) + 1) / max(_least_step(cost_RG), 1e-12)
    for _ in range(_STEPS):
        price = (low + high) / 2
        places = at(price)
        if cost_of(places) <= budget:
            high, cheap = price, places
        else:
            low, dear = price, places
    above, below = cost_of(dear), cost_of(cheap)
    share = float(np.clip((budget - below) / (above - below), 0.0, 1.0)) if above > below else 0.0
    return share * _one_hot(dear, len(score_RG)) + (1 - share) * _one_hot(cheap, len(score_RG))


def _measured(table: RouteTable, choice: Choice, fitted_N: npt.NDArray[np.bool_]) -> float | None:
    """Gain on the questions that were not fitted, over the best mixture there at the same cost."""
    if any(len(np.unique(table.benchmark_N[part])) < len(table.benchmarks) for part in (fitted_N, ~fitted_N)):
        return None  # a benchmark of too few pictures
    shares_RG = best_allocation(*_by_family(table, fitted_N), float(choice.cost_N[fitted_N].mean()))
    score_RG, cost_RG = _by_family(table, ~fitted_N)
    # What the routes really cost there may differ a little from the method's; less than it may spend is its own choice.
    cost = max(float((shares_RG * cost_RG).sum()), float(choice.cost_N[~fitted_N].mean()))
    accuracies = score_RG.sum(axis=1).tolist()
    mixed = best_mixture(cost, cost_RG.sum(axis=1).tolist(), accuracies)
    if mixed is None:
        return None
    return float((shares_RG * score_RG).sum()) - sum(share * accuracies[place] for place, share in mixed)


def _by_family(table: RouteTable, part_N: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """score_RG and cost_RG: what each family adds to the part's accuracy and mean cost on each route."""
    benchmark, family = table.benchmark_N[part_N], table.family_N[part_N]
    weights = 1 / (len(table.benchmarks) * np.bincount(benchmark)[benchmark])
    num = len(table.families)
    scores = [np.bincount(family, weights * row, num) for row in table.on_routes_RN[:, part_N]]
    costs = [np.bincount(family, row / part_N.sum(), num) for row in table.cost_RN[:, part_N]]
    return np.stack(scores), np.stack(costs)


def _least_step(cost_RG: Floats) -> float:
    """The smallest difference of cost between two routes of a group: beyond its price, only the cheapest is taken."""
    steps = np.diff(np.sort(cost_RG, axis=0), axis=0)
    steps = steps[steps > 1e-12]
    return float(steps.min()) if steps.size else 1.0


def _one_hot(places_G: npt.NDArray[np.int64], num_routes: int) -> Floats:
    return (np.arange(num_routes)[:, None] == places_G[None]).astype(np.float64)
