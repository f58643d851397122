"""What reports know of a method: its label, what it can do, and how its points are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpn_model.methods.registry import DENSE, find_method, method_names
from dpn_model.methods.spec import MethodSpec
from dpn_platform.evaluation.points import Point


@dataclass(frozen=True)
class Style:
    """How points of one method are drawn: hex colour, plotly symbol, matplotlib marker, name in legends."""

    label: str
    colour: str
    plotly_symbol: str
    marker: str
    size: float = 1.0


#: of searched methods and of controls, by order of appearance; the page's script brightens the first of each
_SEARCHED = (("#0f766e", "circle", "o", 1.0), ("#b45309", "triangle-up", "^", 1.0), ("#1d4ed8", "star", "*", 1.2))
_DENSE = ("#334155", "diamond", "D", 1.0)
_CONTROLS = (("#c2410c", "square", "s", 1.0), ("#7c3aed", "x", "X", 1.15), ("#be185d", "cross", "P", 1.1))
#: of a study with more methods than looks: what kind a point is
_KINDS = {
    "controls": ("#c2410c", "square", "s", 0.9),
    "trained rivals": ("#1d4ed8", "triangle-up", "^", 1.0),
    "rivals without training": ("#7c3aed", "x", "X", 1.0),
}
_MOST_METHODS = 8
#: the line that controls and coins reach
HULL, HULL_LINE = "controls and their mixtures", "#94a3b8"


def _spec(method: str) -> MethodSpec | None:
    """None for a method that is not registered here: a study of somebody else's is drawn all the same."""
    return find_method(method) if method in method_names() else None


def label_of_method(method: str) -> str:
    """What people call the method; its name where nothing is known of it."""
    spec = _spec(method)
    return method.replace("_", " ") if spec is None else spec.label


def is_dense(method: str) -> bool:
    """Whether it reduces nothing: what every other point is compared with."""
    return method == DENSE


def is_fixed(method: str) -> bool:
    """Whether it does the same to every sample: its strongest setting shows which families need detail."""
    spec = _spec(method)
    return spec is not None and spec.reduces and spec.chooses == "fixed" and not spec.is_random


def is_trained_alike(method: str) -> bool:
    """Whether it does the same to every sample and was trained so: a static pyramid."""
    spec = _spec(method)
    return spec is not None and is_fixed(method) and spec.needs_training != "none"


def is_yardstick(method: str) -> bool:
    """Whether it is a control that every claim is held against, or the method without reduction."""
    spec = _spec(method)
    return spec is not None and (is_dense(method) or spec.control is not None)


def kinds_of(points: Sequence[Point]) -> dict[str, str]:
    """Under which name each point is drawn: its method's, or in a study of many methods what kind of rival it is."""
    are_many = len({one.method for one in points}) > _MOST_METHODS
    return {point.name: _rival(point) if are_many else point.method for point in points}


def _rival(point: Point) -> str:
    if is_dense(point.method) or not point.is_control:
        return point.method
    if is_yardstick(point.method):
        return "controls"
    return "rivals without training" if point.on == DENSE else "trained rivals"


def styles_of(points: Sequence[Point]) -> dict[str, Style]:
    """The style of each of `kinds_of`, in the order of the legend: searched ones, the dense one, other controls.

    Within these, methods follow their first point. More than three methods of a kind share looks.
    """
    kinds = kinds_of(points)
    methods = list(dict.fromkeys(kinds.values()))
    control_only = set(methods) - {kinds[point.name] for point in points if not point.is_control}
    searched = [method for method in methods if method not in control_only and not is_dense(method)]
    dense = [method for method in methods if is_dense(method)]
    controls = [method for method in methods if method in control_only and not is_dense(method)]
    looks = [_SEARCHED[index % len(_SEARCHED)] for index in range(len(searched))] + [_DENSE] * len(dense)
    looks += [_KINDS.get(kind, _CONTROLS[index % len(_CONTROLS)]) for index, kind in enumerate(controls)]
    return {
        kind: Style(_told(kind, is_control=kind in control_only), *look)
        for kind, look in zip([*searched, *dense, *controls], looks, strict=True)
    }


def _told(kind: str, *, is_control: bool) -> str:
    return kind if kind in _KINDS else label_of_method(kind) + (" (control)" if is_control else "")
