"""What a reader must know before the numbers: routes that were never trained, scores that are no headline."""

from __future__ import annotations

import numpy as np

from dpn_platform.benchmarks.statistics.headlines import is_mean_of_questions
from dpn_platform.reports.dynamic.table import RouteTable

#: share of the samples whose outcome on a route may be another than when they took it by themselves
_MOST_OTHERS = 0.02
#: accuracy that a route of a dial may lose before its training is asked about
_MOST_LOST = 0.05


def cautions_of(table: RouteTable) -> tuple[str, ...]:
    """One line each."""
    others = [name for name in table.benchmarks if not is_mean_of_questions(name)]
    told = []
    if others:
        told.append(f"{', '.join(others)}: the share of right answers is compared, not the headline")
    return (*told, *_other_outcomes(table), *_untrained_dial(table))


def _other_outcomes(table: RouteTable) -> list[str]:
    """One checkpoint gives a sample on one route one answer, whoever chose the route, up to rounding."""
    route_N = table.choices[0].route_N
    pictured = np.flatnonzero(route_N >= 0)
    differing = int((table.on_routes_RN[route_N[pictured], pictured] != table.choices[0].score_N[pictured]).sum())
    if differing <= _MOST_OTHERS * len(pictured):
        return []
    return [
        f"{differing} of {len(pictured)} samples score otherwise on the route that they took than when it was "
        "measured: other precision, settings or weights; differences to routes are off by as much"
    ]


def _untrained_dial(table: RouteTable) -> list[str]:
    """A dial leads samples to routes; where training drew none but the router's own, they may be worth little."""
    drawn = (table.settings.get("sandwich") or {}).get("drawn", 0)
    at_budgets = [choice.route_N for choice in table.choices if choice.budget is not None]
    if drawn or not at_budgets:
        return []
    used = np.unique(np.concatenate(at_budgets))
    accuracies = [table.mean(route.score_N) for route in table.routes]
    of_used = {table.routes[place].name: accuracies[place] for place in used if place >= 0}
    dearest = accuracies[-1]  # routes are ordered by cost
    if not of_used or dearest - min(of_used.values()) <= _MOST_LOST:
        return []
    worst, best = min(of_used, key=lambda name: of_used[name]), max(of_used, key=lambda name: of_used[name])
    return [
        f"the dial uses routes that were never trained (sandwich.drawn 0): from {100 * of_used[worst]:.1f}% ({worst}) "
        f"to {100 * of_used[best]:.1f}% ({best}), and {100 * dearest:.1f}% on the dearest route; train all routes first"
    ]
