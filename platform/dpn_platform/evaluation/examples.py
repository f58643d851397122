"""Samples for a report's gallery: some of every family, routes mixed."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.benchmarks.outcomes import Row, is_right
from dpn_platform.evaluation.scoring import by_family

PER_FAMILY = 3


def choose_examples(rows: Sequence[Row], per_family: int = PER_FAMILY) -> list[Row]:
    """Up to `per_family` samples of each family: one of every route first, right answers before wrong ones.

    A pure function of the outcomes: the same evaluation shows the same samples.
    """
    chosen: list[Row] = []
    for _, members in sorted(by_family(rows).items()):
        routes: dict[str, int] = {}
        turns = []
        for row in sorted(members, key=lambda row: (not is_right(row), row["place"])):
            routes[row["route"]] = routes.get(row["route"], 0) + 1
            turns.append((routes[row["route"]], row["place"], row))
        chosen += [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])[:per_family]]
    return chosen
