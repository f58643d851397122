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


def is_yardstick(method: str) -> bool:
    """Whether it is a control that every claim is held against, or the method without reduction."""
    spec = _spec(method)
    return spec is not None and (is_dense(method) or spec.control is not None)


def styles_of(points: Sequence[Point]) -> dict[str, Style]:
    """Each method's style, in the order of the legend: searched ones, the one without reduction, other controls.

    Within these, methods follow their first point. More methods than looks share them.
    """
    methods = list(dict.fromkeys(point.method for point in points))
    control_only = {method for method in methods if all(one.is_control for one in points if one.method == method)}
    searched = [method for method in methods if method not in control_only and not is_dense(method)]
    dense = [method for method in methods if is_dense(method)]
    controls = [method for method in methods if method in control_only and not is_dense(method)]
    looks = [_SEARCHED[index % len(_SEARCHED)] for index in range(len(searched))] + [_DENSE] * len(dense)
    looks += [_CONTROLS[index % len(_CONTROLS)] for index in range(len(controls))]
    return {
        method: Style(label_of_method(method) + (" (control)" if method in control_only else ""), *look)
        for method, look in zip([*searched, *dense, *controls], looks, strict=True)
    }
