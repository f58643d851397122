"""One wording for every picture and table: titles of axes, formats of numbers, parameters and routes."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from dpn_platform.evaluation.points import Convention, Point

AXIS_ACCURACY = "accuracy (%)"
NOT_MEASURED = "–"

_ROUTE_SEPARATOR = re.compile(r"\s*(?:->|→|,|/|\|)\s*|\s+")
_SHORT_PARAMS = {
    "routing_loss_weight": "λ",
    "routing_loss_target": "t",
    "route_fit_target": "target",
    "lambda": "λ",
    "target": "t",
    "experts": "experts",
    "site_kernels": "kernels",
    "keep_ratio": "keep",
}


def axis_flops(convention: str) -> str:
    """Title of the cost axis; the convention is always named."""
    if convention == "executed":
        return "FLOPs ratio (executed: tower, projector, LLM and method, what really ran)"
    return f"LLM FLOPs ratio ({convention}, what really ran)"


def conventions_shown(convention: Convention) -> tuple[Convention, ...]:
    """Columns of tables: the study's own convention first."""
    others: tuple[Convention, ...] = ("swiglu", "eq8")
    return (convention, *(name for name in others if name != convention))


def percent(fraction: float, digits: int = 1) -> str:
    """`0.9312` -> `93.1`; a dash when not measured."""
    return f"{100 * fraction:.{digits}f}" if math.isfinite(fraction) else NOT_MEASURED


def signed_points(fraction: float, digits: int = 1) -> str:
    """A difference in percentage points with its sign, with a real minus."""
    return f"{100 * fraction:+.{digits}f}".replace("-", "−") if math.isfinite(fraction) else NOT_MEASURED


def ratio(value: float, digits: int = 3) -> str:
    """A FLOPs ratio, or a dash when not measured."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOT_MEASURED


def interval(ci: tuple[float, float]) -> str:
    """`(0.912, 0.934)` -> `91.2–93.4`."""
    return f"{percent(ci[0])}–{percent(ci[1])}"


def seeds_text(point: Point, before: str = ", ") -> str:
    """`, 3 seeds 91.2–93.4`: how far the seeds of a point lie apart; nothing for a single run."""
    if not point.seeds:
        return ""
    return f"{before}{len(point.seeds)} seeds {interval((min(point.seeds.values()), max(point.seeds.values())))}"


def short_params(params: Mapping[str, Any], leave_out: Collection[str] = ()) -> str:
    """The parameters of a point in one line: `λ=0.12 t=1.4 experts={1x1,1x2,2x2}`."""
    flat = {path: value for key, given in params.items() if key not in leave_out for path, value in _leaves(key, given)}
    return " ".join(f"{_short_key(key)}={_short_value(value)}" for key, value in flat.items())


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a section of settings sets, each by its dotted key."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(f"{key}.{name}", inner)


def common_params(points: Sequence[Point]) -> dict[str, Any]:
    """Parameters with one value in all points of the search: said once, not in every row."""
    searched = [point.params for point in points if not point.is_control]
    if len(searched) < 2:
        return {}
    return {key: value for key, value in searched[0].items() if all(params.get(key) == value for params in searched)}


def _short_key(key: str) -> str:
    parts = key.replace("/", ".").split(".")
    for name in ("_".join(parts[-2:]), parts[-1]):
        if name in _SHORT_PARAMS:
            return _SHORT_PARAMS[name]
    return parts[-1]


def _short_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return "{" + ",".join(str(item) for item in value) + "}"
    return str(value)


def route_steps(route: str | Sequence[str]) -> list[str]:
    """The kernels of a route, one per site, however it was written (`2x2,1x1`, `2x2 -> 1x1`, a list)."""
    if isinstance(route, str):
        return [step for step in _ROUTE_SEPARATOR.split(route) if step]
    return [str(step) for step in route]


def route_text(route: str | Sequence[str]) -> str:
    """`2x2 → 1x1 → 1x2`; `no sites` when nothing is reduced."""
    return " → ".join(route_steps(route)) or "no sites"
