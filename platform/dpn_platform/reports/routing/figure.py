"""Routing statistics as a PNG: the paper's Fig. 3 (routes per benchmark) above what they depend on."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from dpn_platform.reports.look.labels import route_steps
from dpn_platform.reports.look.style import GRID, INK, QUIET

DPI = 150
ROUTES_SHOWN, GROUPS_SHOWN = 7, 12
_COLUMNS = 4
_BAR, _OTHERS = "#0f766e", "#94a3b8"
KERNEL_COLOURS = ("#134e4a", "#0f766e", "#2dd4bf", "#99f6e4", "#fbbf24", "#c2410c", "#7c3aed")
RC = {"font.family": ["DejaVu Sans"], "font.size": 9.5, "axes.edgecolor": "#94a3b8", "axes.labelcolor": INK}
_FIGURE_NAMES = {
    "edge_density": "edge density",
    "image_entropy": "entropy of the picture",
    "image_pixels": "pixels of the picture",
}


def routing_png(statistics: Mapping[str, Any], title: str) -> bytes:
    """PNG of `evaluation.routing_statistics.routing_statistics`; the same statistics give the same bytes."""
    groups = dict(list(statistics["groups"].items())[:GROUPS_SHOWN])
    labels = route_labels(statistics["groups"])
    rows = math.ceil(len(groups) / _COLUMNS)
    height = 1.3 + 2.3 * rows + 3.1
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(13.0, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        grid = GridSpec(
            rows + 1,
            12,
            figure=figure,
            left=0.05,
            right=0.985,
            top=1 - 0.95 / height,
            bottom=0.62 / height,
            hspace=0.5,
            wspace=1.6,
            height_ratios=[2.3] * rows + [3.1],
        )
        for place, (name, group) in enumerate(groups.items()):
            row, column = divmod(place, _COLUMNS)
            _routes(figure.add_subplot(grid[row, 3 * column : 3 * column + 3]), name, group, labels)
        _sites(figure.add_subplot(grid[rows, 0:3]), statistics["groups"])
        _question_types(figure.add_subplot(grid[rows, 4:8]), statistics)
        _image(figure.add_subplot(grid[rows, 8:12]), statistics["image"])
        _headings(figure, statistics, title, height)
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": "dpn"})
    return target.getvalue()


def route_labels(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Route -> `4,2,1` as the paper writes it; the route itself where kernels of one area are told apart (1x2, 2x1)."""
    routes = list(dict.fromkeys(route for group in groups.values() for route in group["routes"]))
    digits = {route: _digits(route) for route in routes}
    return digits if len(set(digits.values())) == len(routes) else {route: route for route in routes}


def _digits(route: str) -> str:
    digits = []
    for step in route_steps(route):
        height, _, width = step.partition("x")
        digits.append(str(int(height) * int(width)) if height.isdigit() and width.isdigit() else step)
    return ",".join(digits)


def _headings(figure: Figure, statistics: Mapping[str, Any], title: str, height: float) -> None:
    figure.text(0.02, 1 - 0.3 / height, title, fontsize=14, fontweight="bold", color=INK, va="center")
    note = f"{statistics['n']:,} samples with an image. A route is the cells pooled into one at each site: 4,2,1 is 2x2"
    figure.text(0.02, 1 - 0.56 / height, note + ", then 1x2, then none.", fontsize=9.5, color=QUIET, va="center")


def plain_axes(axes: Axes) -> None:
    """No frame above and to the right; quiet ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, length=2)


def _routes(axes: Axes, name: str, group: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    routes = list(group["routes"].items())
    shown = [(labels[route], found["share"]) for route, found in routes[:ROUTES_SHOWN]]
    rest = sum(found["share"] for _, found in routes[ROUTES_SHOWN:])
    bars = [*shown, (f"+{len(routes) - ROUTES_SHOWN}", rest)] if rest else shown
    places = range(len(bars))
    colours = [_BAR] * len(shown) + [_OTHERS]
    axes.bar(places, [100 * share for _, share in bars], color=colours[: len(bars)], width=0.72)
    for place, (_, share) in enumerate(bars):
        axes.annotate(f"{100 * share:.0f}", (place, 100 * share), (0, 2), textcoords="offset points", ha="center")
    axes.set_xticks(places, [label for label, _ in bars], rotation=35 if len(bars) > 4 else 0)
    axes.set_xlim(-0.6, max(len(bars), 4) - 0.4)
    axes.set_ylim(0, 1.18 * max(100 * share for _, share in bars))
    axes.set_ylabel("samples (%)")
    count = f"{group['distinct_routes']} route" + ("" if group["distinct_routes"] == 1 else "s")
    axes.set_title(f"{name}: {count}, keeps {100 * group['keep_ratio']:.0f}%", fontsize=10, color=INK, loc="left")
    plain_axes(axes)


def _sites(axes: Axes, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Share of each choice at every site, all groups together."""
    total = sum(group["n"] for group in groups.values())
    sites = max(len(group["sites"]) for group in groups.values())
    choices = sorted({choice for group in groups.values() for site in group["sites"] for choice in site["choices"]})
    bottoms = [0.0] * sites
    layers: list[Any] = [None] * sites
    for number, choice in enumerate(choices):
        heights = [0.0] * sites
        for group in groups.values():
            for place, site in enumerate(group["sites"]):
                heights[place] += 100 * site["choices"].get(choice, 0.0) * group["n"] / total
                layers[place] = site["after_layer"]
        colour = KERNEL_COLOURS[number % len(KERNEL_COLOURS)]
        axes.bar(range(sites), heights, bottom=bottoms, color=colour, width=0.6, label=choice)
        bottoms = [low + high for low, high in zip(bottoms, heights, strict=True)]
    labels = [f"site {n + 1}" if layer is None else f"after layer {layer}" for n, layer in enumerate(layers)]
    axes.set_xticks(range(sites), labels)
    axes.set_ylabel("samples (%)")
    axes.set_title("kernel chosen at each site", fontsize=10, color=INK, loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), frameon=False, handlelength=1.0, ncols=len(choices))
    plain_axes(axes)


def _question_types(axes: Axes, statistics: Mapping[str, Any]) -> None:
    """Keep ratio with its interval by question type, and for right and wrong answers."""
    found = sorted(statistics["question_type"].items(), key=lambda item: item[1]["keep_ratio"])[-GROUPS_SHOWN:]
    answers = [(f"if {name}", summary) for name, summary in statistics["correctness"].items()]
    lines = [*answers, *found]
    for place, (_, summary) in enumerate(lines):
        _dot(axes, place, summary, _OTHERS if place < len(answers) else _BAR, horizontal=True)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    axes.set_xlabel("visual tokens kept, mean over layers (%)")
    axes.set_title("by question type and correctness", fontsize=10, color=INK, loc="left")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    plain_axes(axes)


def _image(axes: Axes, figures: Mapping[str, Any]) -> None:
    """Keep ratio over quartiles of the first recorded figure of the picture; the accuracy in each as text."""
    plain_axes(axes)
    name = next(iter(figures), None)
    if name is None:
        axes.text(0.5, 0.5, "no picture statistics recorded", transform=axes.transAxes, ha="center", color=QUIET)
        axes.set_axis_off()
        return
    bins: Sequence[Mapping[str, Any]] = figures[name]["bins"]
    axes.plot(range(len(bins)), [100 * one["keep_ratio"] for one in bins], color=_BAR, linewidth=1.2)
    for place, one in enumerate(bins):
        _dot(axes, place, one, _BAR, horizontal=False)
    labels = [_bin_label(one) for one in bins]
    axes.set_xticks(range(len(bins)), labels)
    axes.set_xlim(-0.5, len(bins) - 0.5)
    axes.set_ylabel("visual tokens kept (%)")
    correlation = figures[name]["spearman"]
    rank = "" if correlation is None else f" (rank corr. {correlation:+.2f})".replace("-", "−")
    axes.set_title(f"by {_FIGURE_NAMES[name]}{rank}", fontsize=10, color=INK, loc="left")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _bin_label(one: Mapping[str, Any]) -> str:
    bound = f"to {one['to']:.2g}"
    return bound if one["accuracy"] is None else f"{bound}\n{100 * one['accuracy']:.0f}% right"


def _dot(axes: Axes, place: float, summary: Mapping[str, Any], colour: str, *, horizontal: bool) -> None:
    value = 100 * summary["keep_ratio"]
    low, high = (100 * bound for bound in summary["ci95"])
    # The mean is summed in another order than its draws: rounding may put it a hair outside its own interval.
    bars = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    style: dict[str, Any] = {"fmt": "o", "color": colour, "markersize": 5.5, "elinewidth": 1.4, "capsize": 2.5}
    if horizontal:
        axes.errorbar([value], [place], xerr=bars, **style)
    else:
        axes.errorbar([place], [value], yerr=bars, **style)
