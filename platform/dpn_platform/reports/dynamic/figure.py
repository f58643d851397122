"""The proof as a picture, a panel per checkpoint: routes, what mixtures of them reach, and what the method chose."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpn_platform.evaluation.pareto import upper_hull
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.dynamic.proof import MeasuredRoute, Proof
from dpn_platform.reports.look.labels import AXIS_ACCURACY, axis_flops
from dpn_platform.reports.look.style import GRID, INK, QUIET

DPI = 150
_COLUMNS, _MOST_PANELS = 2, 8
_ROUTE, _TAKEN, _HULL, _PYRAMID, _METHOD, _REFUSED = "#94a3b8", "#5fb5ab", "#94a3b8", "#c2410c", "#0f766e", "#b45309"
_RC = {"font.family": ["DejaVu Sans"], "font.size": 10, "axes.edgecolor": "#94a3b8", "axes.labelcolor": INK}


def dynamic_png(proofs: Sequence[Proof], name: str) -> bytes:
    """PNG; the same proofs give the same bytes with the same matplotlib."""
    panels: dict[str, list[Proof]] = {}
    for proof in proofs:
        panels.setdefault(proof.name, []).append(proof)
    shown = dict(list(panels.items())[:_MOST_PANELS])
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    with matplotlib.rc_context(_RC):
        width, height = (10.0, 5.9) if columns == 1 else (13.0, 0.9 + 4.2 * rows)
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (checkpoint, members) in zip(grid.flat, shown.items(), strict=False):
            _panel(axes, members, checkpoint if len(shown) > 1 else "")
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        left_out = f" ({len(panels) - len(shown)} more in the tables)" if len(panels) > len(shown) else ""
        title = f"Choice per sample: {name}{left_out}"
        figure.text(0.02, 1 - 0.3 / height, title, fontsize=14, fontweight="bold", color=INK)
        note = "Bars: 95% intervals of the accuracy; verdicts rest on paired differences. Better is above the lines."
        figure.text(0.02, 1 - 0.55 / height, note, fontsize=9, color=QUIET)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.7 / height))
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": "dpn"})
    return target.getvalue()


def _panel(axes: Axes, proofs: Sequence[Proof], title: str) -> None:
    first = proofs[0]
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, length=3)
    axes.set_xlabel(axis_flops(first.convention))
    axes.set_ylabel(AXIS_ACCURACY)
    if title:
        axes.set_title(title, fontsize=10.5, color=INK, loc="left")
    taken = {route.name for proof in proofs for route in proof.routes if route.share}
    _cloud(axes, [one for one in first.routes if one.name not in taken], _ROUTE, "o", "own routes, never taken", 4.5)
    _cloud(axes, [one for one in first.routes if one.name in taken], _TAKEN, "o", "own routes, taken", 6.5)
    _line(axes, first.routes, _HULL, "mixtures of own routes")
    _cloud(axes, first.pyramids, _PYRAMID, "s", "separately trained", 6.0)
    _line(axes, first.pyramids, _PYRAMID, "mixtures of these")
    _points(axes, proofs)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="lower right")


def _cloud(axes: Axes, routes: Sequence[MeasuredRoute], colour: str, marker: str, label: str, size: float) -> None:
    known = [(one.cost, 100 * one.accuracy) for one in routes if one.cost is not None]
    if known:
        costs, heights = zip(*known, strict=True)
        axes.plot(costs, heights, marker, color=colour, markersize=size, markeredgecolor="white", label=label, zorder=3)


def _line(axes: Axes, routes: Sequence[MeasuredRoute], colour: str, label: str) -> None:
    """What mixtures of two reach; nothing of a single one."""
    corners = upper_hull([_as_point(one) for one in routes if one.cost is not None])
    if len(corners) > 1:
        costs, heights = zip(*((cost, 100 * accuracy) for cost, accuracy in corners), strict=True)
        axes.plot(costs, heights, color=colour, linestyle="--", linewidth=1.4, label=label, zorder=2)


def _points(axes: Axes, proofs: Sequence[Proof]) -> None:
    """The method as it is and along its dial, in another colour where it is not shown to be better than a coin."""
    known = sorted((one for one in proofs if one.cost is not None), key=lambda one: one.cost or 0.0)
    dial = [one for one in known if one.budget is not None]
    costs, heights = [one.cost or 0.0 for one in dial], [100 * one.accuracy for one in dial]
    axes.plot(costs, heights, color=_METHOD, linewidth=1.2, zorder=4)
    labelled: set[str] = set()
    for one in known:
        what = "the method as it is" if one.budget is None else "its dial"
        label = f"{what}, {'dynamic' if one.is_dynamic else 'not shown'}"
        low, high = 100 * (one.accuracy - one.ci[0]), 100 * (one.ci[1] - one.accuracy)
        axes.errorbar(
            [one.cost or 0.0],
            [100 * one.accuracy],
            yerr=[[max(0.0, low)], [max(0.0, high)]],
            fmt="*" if one.budget is None else "D",
            markersize=14 if one.budget is None else 6.5,
            color=_METHOD if one.is_dynamic else _REFUSED,
            markeredgecolor="white",
            elinewidth=1.3,
            capsize=2.5,
            label=None if label in labelled else label,
            zorder=5,
        )
        labelled.add(label)


def _as_point(route: MeasuredRoute) -> Point:
    """As the front's hull takes it."""
    return Point(
        name=route.name,
        method="",
        accuracy=route.accuracy,
        accuracy_ci=(route.accuracy, route.accuracy),
        flops_ratio={"swiglu": route.cost or 0.0},
        visual_tokens_mean=math.nan,
    )
