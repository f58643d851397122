"""What reports know of a method: its label, what it can do, and how its points are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


#: to be answered by the methods' specifications: the three functions below are all that reports ask of them
_WITHOUT_REDUCTION, _FIXED = frozenset({"dense"}), frozenset({"static"})


def label_of_method(method: str) -> str:
    """What people call the method; its name where it says nothing else."""
    return method.replace("_", " ")


def is_dense(method: str) -> bool:
    """Whether it reduces nothing: what every other point is compared with."""
    return method in _WITHOUT_REDUCTION


def is_fixed(method: str) -> bool:
    """Whether it does the same to every sample and pools: its strongest setting shows which families need detail."""
    return method in _FIXED


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
