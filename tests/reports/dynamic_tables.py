"""Outcome tables with known answers: families that need other routes, routers that know them or do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Row = dict[str, Any]
CHEAP, DEAR = "2x2,2x2", "1x1,1x1"
COSTS = {CHEAP: 400, "1x2,1x2": 600, DEAR: 1000}
#: family -> the chance of a right answer on the cheap route, the middle one and the dear one
CHANCES = {"counting": (0.95, 0.95, 0.95), "reading": (0.2, 0.6, 0.95)}


def outcome(place: int, family: str, route: str, score: float, cost: float, **more: Any) -> Row:
    """One row as `dpn evaluate` writes it, with the columns that reports read."""
    row = {"benchmark": "heldout", "variant": "", "place": place, "question_id": str(place), "family": family}
    row |= {"unit": f"picture {place}", "image_sha": f"picture {place}", "in_headline": True, "score": score}
    row |= {"gold": "yes", "parsed": "yes", "has_image": True, "has_router": True, "route": route}
    row |= {"swiglu_macs": cost, "swiglu_dense": 1000, "eq8_macs": cost, "eq8_dense": 1000}
    return row | {"checkpoint": "abc", "method": "dpn", "settings": '{"name": "dpn"}'} | more


def scores_of(families: Sequence[str], costs: Mapping[str, int] = COSTS, seed: int = 0) -> dict[str, np.ndarray]:
    """Route -> score of every question, drawn with `CHANCES`; one draw decides over all routes of a question."""
    luck = np.random.default_rng(seed).random(len(families))
    chances = np.array([CHANCES[family] for family in families])
    return {route: (luck < chances[:, place]).astype(float) for place, route in enumerate(costs)}


def table_of(
    families: Sequence[str],
    choose: Callable[[int, str], str],
    scores: Mapping[str, Sequence[float]],
    costs: Mapping[str, int] = COSTS,
    budgets: Mapping[float, Callable[[int, str], str]] | None = None,
    **more: Any,
) -> list[Row]:
    """The rows of a checkpoint: its own, those on each route, and those at budgets of its dial."""

    def rows(choose: Callable[[int, str], str], **of_rows: Any) -> list[Row]:
        taken = [choose(place, family) for place, family in enumerate(families)]
        return [
            outcome(place, families[place], route, float(scores[route][place]), costs[route], **more | of_rows)
            for place, route in enumerate(taken)
        ]

    found = rows(choose)
    for route in costs:
        found += rows(lambda place, family, fixed=route: fixed, variant=f"route-{route.replace(',', '-')}")
    for budget, choose_at in (budgets or {}).items():
        found += rows(choose_at, variant=f"budget-{budget:g}", budget=budget)
    return found


def knows_the_family(place: int, family: str) -> str:
    """A router that reads the question."""
    return DEAR if family == "reading" else CHEAP


def halves(n: int) -> list[str]:
    """Half of the questions of each family, in turn."""
    return ["counting", "reading"] * (n // 2)
