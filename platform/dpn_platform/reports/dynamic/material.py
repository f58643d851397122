"""What a proof is made of: one checkpoint's outcome rows, its own and those on each of its routes.

`dpn evaluate --routes all` writes the routes as variants of the checkpoint ("route-1x1-2x2"), beside points of its dial
("budget-0.45"). Studies of earlier versions hold every route as a point of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dpn_platform.benchmarks.outcomes import Row, read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.variants import ROUTE as ROUTE_VARIANT
from dpn_platform.evaluation.points import DIAL, Point
from dpn_platform.reports.look.methods import is_dense, is_trained_alike

ROUTES_COMMAND = "dpn evaluate CHECKPOINT --routes all"
#: setting of points that are a checkpoint on one route, and what stands before it in their names
ROUTE, _ROUTE_POINT = "route", "-route-"
#: of the outcome table: all that a proof reads
COLUMNS = (
    *("benchmark", "variant", "place", "question_id", "unit", "family", "in_headline", "score", "gold", "has_image"),
    *("image_sha", "route", "eq8_macs", "eq8_dense", "swiglu_macs", "swiglu_dense", "executed_macs", "executed_dense"),
    *("checkpoint", "method", "settings", "budget"),
)


@dataclass(frozen=True)
class Material:
    """Outcome rows of one checkpoint.

    Attributes:
        name: of the point or evaluation.
        method: as it is registered; empty where nothing says it.
        own: as the method chose.
        on_budgets: budget of the dial -> rows as the method chose there, the lowest budget first.
        on_routes: route ("1x1,2x2") -> rows with every picture on it.
    """

    name: str
    method: str
    own: tuple[Row, ...]
    on_budgets: Mapping[float, Sequence[Row]]
    on_routes: Mapping[str, Sequence[Row]]

    @property
    def routes_taken(self) -> set[str]:
        """By the samples with a picture, under the checkpoint as it is and at its budgets."""
        return _taken(row for rows in (self.own, *self.on_budgets.values()) for row in rows)

    @property
    def does_the_same_to_all(self) -> bool:
        """Whether it is a pyramid, or nothing at all: a control for others, by a method that cannot choose."""
        if self.on_routes:
            return False
        return is_dense(self.method) or (is_trained_alike(self.method) and len(self.routes_taken) == 1)

    @property
    def num_sites(self) -> int:
        """How many choices a route is; 0 where no picture took one."""
        return max((len(route.split(",")) for route in self.routes_taken), default=0)


def material_of(
    name: str, rows: Sequence[Row], on_routes: Mapping[str, Sequence[Row]] | None = None, method: str = ""
) -> Material:
    """Sorts the rows of a table.

    Args:
        name: of the point or evaluation.
        rows: of all variants. Those with another method attached are left out.
        on_routes: rows on routes that another table holds.
        method: of the point, where its rows do not say it.

    Raises:
        DpnError: no row of the checkpoint as it is, or rows of several checkpoints.
    """
    by_variant: dict[str, list[Row]] = {}
    for row in rows:
        by_variant.setdefault(row.get("variant") or "", []).append(row)
    own = by_variant.pop("", [])
    if not own:
        raise DpnError(f"{name}: no outcomes of the checkpoint as it is; evaluate it again")
    if len(found := {row.get("checkpoint") for row in own}) > 1:
        raise DpnError(f"{name}: outcomes of {len(found)} checkpoints in one table; give their own evaluations")
    budgets = {float(found[0]["budget"]): found for found in by_variant.values() if found[0].get("budget") is not None}
    routes = {
        _route_of(variant, found): found for variant, found in by_variant.items() if variant.startswith(ROUTE_VARIANT)
    }
    method = str(own[0].get("method") or method)
    return Material(name, method, tuple(own), dict(sorted(budgets.items())), routes or dict(on_routes or {}))


def materials_of_points(points: Sequence[Point]) -> dict[str, Material]:
    """Point -> its rows; points that are its checkpoint on one route, or at a ratio of its dial, are among them.

    Raises:
        DpnError: a table that is missing or cannot be read.
    """
    kept = [point for point in points if point.outcomes_uri]
    routes: dict[str, dict[str, Sequence[Row]]] = {}
    dials: dict[str, dict[float, Sequence[Row]]] = {}
    for point in kept:
        if ROUTE in point.params:
            routes.setdefault(point.name.rpartition(_ROUTE_POINT)[0], {})[str(point.params[ROUTE])] = _own_rows(point)
        elif DIAL in point.params and point.on is not None:
            dials.setdefault(point.on, {})[float(point.params[DIAL])] = _own_rows(point)
    found = {}
    for point in kept:
        if ROUTE in point.params or (DIAL in point.params and point.on is not None):
            continue
        one = material_of(point.name, read_rows(point.outcomes_uri), routes.get(point.name), point.method)
        # Where routes are points, those of the checkpoint as it is were run: a ratio that took others is left out.
        turned = {
            ratio: rows for ratio, rows in dials.get(point.name, {}).items() if _taken(rows) <= set(one.on_routes)
        }
        budgets = {**turned, **one.on_budgets}
        found[point.name] = replace(one, on_budgets=dict(sorted(budgets.items())))
    return found


def _taken(rows: Iterable[Row]) -> set[str]:
    """Routes of the samples with a picture."""
    return {row["route"] for row in rows if row.get("has_image") and row.get("route")}


def _own_rows(point: Point) -> list[Row]:
    return [row for row in read_rows(point.outcomes_uri) if not row.get("variant")]


def read_rows(uri: str | None) -> list[Row]:
    """The rows of a table, with `COLUMNS` alone.

    Raises:
        DpnError: nothing there, or no parquet.
    """
    return list(read_table(str(uri), COLUMNS))


def _route_of(variant: str, rows: Sequence[Row]) -> str:
    """As the rows write it; the variant's name where no picture took one."""
    taken = _taken(rows)
    return taken.pop() if len(taken) == 1 else variant.removeprefix(ROUTE_VARIANT).replace("-", ",")
