"""Outcomes as arrays: what every question scored and cost, as the method chose and on every route.

Costs are in units of the mean uncompressed cost, so that their mean is the FLOPs ratio. Questions that were not scored,
or that no headline counts, are left out.

Shape letters: N questions, R routes, B benchmarks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dpn_platform.benchmarks.outcomes import Row
from dpn_platform.benchmarks.statistics.bootstrap import clustered_means
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.points import Convention
from dpn_platform.reports.dynamic.material import ROUTES_COMMAND, Material

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Key = tuple[Any, Any]


class Choice(NamedTuple):
    """The method at one operating point: score_N, cost_N (NaN where not counted), route_N (-1: no picture)."""

    budget: float | None
    score_N: Floats
    cost_N: Floats
    route_N: Integers

    @property
    def cost(self) -> float:
        """Its mean cost."""
        return float(self.cost_N.mean())


class Fixed(NamedTuple):
    """What does the same to every sample: its name, score_N and cost_N."""

    name: str
    score_N: Floats
    cost_N: Floats


@dataclass(frozen=True)
class RouteTable:
    """One checkpoint on one set of questions.

    Attributes:
        checkpoint: digest; empty where the table does not say it.
        settings: of the method, as far as the table says them.
        choices: the checkpoint as it is, then the points of its dial.
        routes: that were measured, the cheapest first.
        benchmarks, families: names; a family's is of its benchmark.
        benchmark_N, family_N: their places.
        picture_N: number of the picture, drawn as a whole; what is asked without one is a picture of its own.
    """

    name: str
    checkpoint: str
    method: str
    settings: Mapping[str, Any]
    choices: tuple[Choice, ...]
    routes: tuple[Fixed, ...]
    benchmarks: tuple[str, ...]
    families: tuple[str, ...]
    benchmark_N: Integers
    family_N: Integers
    picture_N: Integers

    @property
    def weight_N(self) -> Floats:
        """Of every question in an accuracy, which is the mean over benchmarks; together 1."""
        return 1 / (len(self.benchmarks) * np.bincount(self.benchmark_N)[self.benchmark_N])

    @property
    def on_routes_RN(self) -> Floats:
        """Scores on every route."""
        return np.stack([route.score_N for route in self.routes])

    @property
    def cost_RN(self) -> Floats:
        """Costs on every route."""
        return np.stack([route.cost_N for route in self.routes])

    @property
    def num_pictures(self) -> int:
        """What is drawn as a whole, how often."""
        return int(self.picture_N.max()) + 1

    def mean(self, values_N: Floats) -> float:
        """The mean over benchmarks of the mean over their questions."""
        return float(self.weight_N @ values_N)

    def draws(self, values_N: Floats, seed: int) -> Floats:
        """The same of every draw of the bootstrap, whole pictures drawn within every benchmark."""
        means = []
        for place in range(len(self.benchmarks)):
            members = self.benchmark_N == place
            clusters = np.unique(self.picture_N[members], return_inverse=True)[1]
            means.append(clustered_means(values_N[members], clusters, seed, place))
        return np.mean(means, axis=0)


def route_table(material: Material, convention: Convention) -> RouteTable:
    """The arrays of a checkpoint that was measured on its routes.

    Raises:
        DpnError: no outcomes per route, or of another checkpoint, other questions, or without a route that was taken.
    """
    name = material.name
    if not material.on_routes:
        raise DpnError(f"{name}: no outcomes per route; make them: {ROUTES_COMMAND}")
    own = _scored(material.own, name)
    checkpoint = material.own[0].get("checkpoint")
    for rows, what in _others(material):
        stranger = next((row for row in rows if checkpoint and row.get("checkpoint") not in (None, checkpoint)), None)
        if stranger is not None:
            raise DpnError(
                f"{name}: {what} was measured with checkpoint {stranger['checkpoint']}, its own outcomes are of "
                f"{checkpoint}; measure both with one: {ROUTES_COMMAND}"
            )
    found = [aligned(route, own, rows, f"{name}, route {route}", convention) for route, rows in _routes(material)]
    routes = sorted(found, key=lambda one: (float(np.nan_to_num(one.cost_N.mean())), one.name))
    places = {route.name: place for place, route in enumerate(routes)}
    choices = [_choice(None, own, material.own, name, convention, places)]
    for budget, rows in material.on_budgets.items():
        choices.append(_choice(budget, own, rows, f"{name} at {budget:g}", convention, places))
    benchmarks, benchmark_N = _numbered([str(key[0]) for key in own])
    families, family_N = _numbered([f"{key[0]}: {row.get('family') or ''}" for key, row in own.items()])
    pictures = [(key[0], row.get("image_sha") or row.get("unit") or key) for key, row in own.items()]
    return RouteTable(
        name,
        str(checkpoint or ""),
        material.method,
        _settings(material.own[0].get("settings")),
        tuple(choices),
        tuple(routes),
        benchmarks,
        families if len(benchmarks) > 1 else tuple(one.partition(": ")[2] for one in families),
        benchmark_N,
        family_N,
        _numbered(pictures)[1],
    )


def aligned(name: str, own: Mapping[Key, Row], rows: Sequence[Row], told: str, convention: Convention) -> Fixed:
    """Scores and costs of other rows in the order of a checkpoint's own.

    Args:
        name: of what they are.
        own: the checkpoint's own rows by question, of `scored_rows`.
        rows: of the same questions.
        told: what a refusal calls them.
        convention: of the cost.

    Raises:
        DpnError: they answer other questions.
    """
    theirs = _scored(rows, told)
    fields = ("question_id", "gold")
    other = [key for key in (own.keys() | theirs.keys()) if key not in own or key not in theirs]
    other = other or [key for key in own if any(own[key].get(one) != theirs[key].get(one) for one in fields)]
    if other:
        benchmark, place = min(other, key=str)
        raise DpnError(
            f"{told}: answers other questions than the method's own outcomes ({len(other)}, {benchmark} {place}); "
            f"measure both on the same: {ROUTES_COMMAND}"
        )
    score_N = np.array([float(theirs[key]["score"]) for key in own])
    # On the scale of the method's own uncompressed cost: the same questions cost the same without reduction.
    dense = np.array([_number(row.get(f"{convention}_dense")) for row in own.values()])
    macs = np.array([_number(theirs[key].get(f"{convention}_macs")) for key in own])
    return Fixed(name, score_N, macs / (dense.mean() or np.nan))


def scored_rows(material: Material) -> dict[Key, Row]:
    """The rows that accuracies count, by benchmark and place."""
    return _scored(material.own, material.name)


def _choice(
    budget: float | None,
    own: Mapping[Key, Row],
    rows: Sequence[Row],
    told: str,
    convention: Convention,
    places: Mapping[str, int],
) -> Choice:
    found = aligned(told, own, rows, told, convention)
    theirs = _scored(rows, told)
    taken = [theirs[key]["route"] if theirs[key].get("has_image") else None for key in own]
    lacking = Counter(route for route in taken if route and route not in places)
    if lacking:
        ((route, count),) = lacking.most_common(1)
        raise DpnError(f"{told}: {count} samples took route {route}, which was not measured: {ROUTES_COMMAND}")
    return Choice(budget, found.score_N, found.cost_N, np.array([places[one] if one else -1 for one in taken]))


def _routes(material: Material) -> list[tuple[str, Sequence[Row]]]:
    return sorted(material.on_routes.items())


def _others(material: Material) -> list[tuple[Sequence[Row], str]]:
    at_budgets = [(rows, f"budget {budget:g}") for budget, rows in material.on_budgets.items()]
    return at_budgets + [(rows, f"route {route}") for route, rows in _routes(material)]


def _scored(rows: Sequence[Row], told: str) -> dict[Key, Row]:
    kept = [row for row in rows if row.get("score") is not None and row.get("in_headline") is not False]
    found = {(row.get("benchmark"), row.get("place")): row for row in kept}
    if not found:
        raise DpnError(f"{told}: none of its answers was scored")
    if len(found) < len(kept):
        (benchmark, place), count = Counter((row["benchmark"], row["place"]) for row in kept).most_common(1)[0]
        raise DpnError(f"{told}: {count} outcomes of one question ({benchmark} {place}); give one evaluation of it")
    return found


def _numbered(values: Sequence[Any]) -> tuple[tuple[Any, ...], Integers]:
    """The distinct values in order of appearance, and the place of each."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return tuple(places), np.array([places[value] for value in values], dtype=np.int64)


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _settings(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
