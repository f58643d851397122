"""What a reader must know before the numbers: routes that were never trained, scores that are no headline."""

from __future__ import annotations

import numpy as np

from dpn_platform.benchmarks.statistics.headlines import is_mean_of_questions
from dpn_platform.reports.dynamic.table import RouteTable

#: accuracy that a route of a dial may lose before its training is asked about
_MOST_LOST = 0.05


def cautions_of(table: RouteTable) -> tuple[str, ...]:
    """One line each."""
    others = [name for name in table.benchmarks if not is_mean_of_questions(name)]
    told = []
    if others:
        told.append(f"{', '.join(others)}: the share of right answers is compared, not the headline")
    return (*told, *_untrained_dial(table))


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
