"""The front as a PNG for a README's first screen: direct labels, interval bars, one sentence of convention."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dpn_platform.evaluation.pareto import (
    REFERENCE,
    flops_ratio,
    hypervolume,
    is_measured,
    knee,
    pareto_front,
    upper_hull,
)
from dpn_platform.evaluation.pareto import front_points as points_of_front
from dpn_platform.evaluation.points import DIAL, Point, dial_curves
from dpn_platform.reports.look.label_placement import place_labels
from dpn_platform.reports.look.labels import AXIS_ACCURACY, axis_flops, percent
from dpn_platform.reports.look.methods import (
    HULL,
    HULL_LINE,
    is_dense,
    is_yardstick,
    kinds_of,
    label_of_method,
    styles_of,
)
from dpn_platform.reports.look.style import GRID, INK, QUIET
from dpn_platform.reports.study.controls import cheapest_as_good_as_dense
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import interval_note

FRONT_COLOUR, FRONT_LINE = "#0f766e", "#7cc4bb"
DPI = 160
_SIZE_IN = (10.0, 5.8)
_FADED = 0.42
_MOST_LABELS, _MOST_BARS, _WIDE_LEGEND = 16, 40, 5
_RC = {"font.family": ["DejaVu Sans"], "font.size": 11, "axes.edgecolor": "#94a3b8", "axes.labelcolor": INK}


def front_png(record: StudyRecord) -> bytes:
    """PNG of the front; the same record gives the same bytes with the same matplotlib."""
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=_SIZE_IN, dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.075, 0.155, 0.905, 0.645))
        _frame(axes, record)
        corners = _front_corners(axes, record)
        _draw_front(axes, corners)
        _draw_points(axes, record)
        _headings(figure, axes, record)
        segments = [(*start, *end) for start, end in pairwise(corners)]
        place_labels(axes, _labels(record), _obstacles(record), segments)
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": "dpn"})
    return target.getvalue()


def _measured(record: StudyRecord) -> list[Point]:
    return [point for point in record.points if is_measured(point, record.convention)]


def _frame(axes: Axes, record: StudyRecord) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET, length=3)
    axes.set_xlabel(axis_flops(record.convention), labelpad=8)
    axes.set_ylabel(AXIS_ACCURACY, labelpad=8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    points = _measured(record)
    if not points:
        axes.text(0.5, 0.5, "no point of this study was measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    costs = [flops_ratio(point, record.convention) for point in points]
    lows = [100 * min(point.accuracy, *_finite(point.accuracy_ci)) for point in points]
    highs = [100 * max(point.accuracy, *_finite(point.accuracy_ci)) for point in points]
    x_margin = max(0.04 * (max(costs) - min(costs)), 0.015)
    y_margin = max(0.07 * (max(highs) - min(lows)), 0.8)
    axes.set_xlim(min(costs) - x_margin, max([1.0, *costs]) + x_margin)
    axes.set_ylim(min(lows) - y_margin, max(highs) + y_margin)


def _finite(ci: tuple[float, float]) -> Sequence[float]:
    return [bound for bound in ci if bound == bound] or [0.0]  # NaN is the only value unequal to itself


def _front_corners(axes: Axes, record: StudyRecord) -> list[tuple[float, float]]:
    """The step line's corners: level until the next point of the front is affordable, on to the right edge."""
    corners: list[tuple[float, float]] = []
    for point in points_of_front(record.points, record.convention):
        cost, height = flops_ratio(point, record.convention), 100 * point.accuracy
        corners += [(cost, corners[-1][1] if corners else height), (cost, height)]
    return [*corners, (axes.get_xlim()[1], corners[-1][1])] if corners else []


def _draw_front(axes: Axes, corners: Sequence[tuple[float, float]]) -> None:
    if not corners:
        return
    costs, heights = zip(*corners, strict=True)
    axes.fill_between(costs, heights, axes.get_ylim()[0], color=FRONT_COLOUR, alpha=0.055, linewidth=0)
    axes.plot(costs, heights, color=FRONT_LINE, linewidth=2.2, solid_joinstyle="miter", zorder=2)


def _draw_points(axes: Axes, record: StudyRecord) -> None:
    flags = pareto_front(record.points, record.convention)
    on_front = {point.name for point, flag in zip(record.points, flags, strict=True) if flag}
    hull = upper_hull([point for point in record.points if is_yardstick(point.method)], record.convention)
    if record.claims:
        costs, heights = [cost for cost, _ in hull], [100 * accuracy for _, accuracy in hull]
        axes.plot(costs, heights, color=HULL_LINE, linestyle="--", zorder=2)
    kinds, styles = kinds_of(record.points), styles_of(record.points)
    for curve in dial_curves(_measured(record)):
        places = sorted((flops_ratio(point, record.convention), 100 * point.accuracy) for point in curve)
        colour = styles[kinds[curve[0].name]].colour
        axes.plot(*zip(*places, strict=True), color=colour, linewidth=1.2, alpha=_FADED, zorder=2)
    is_crowded = len(record.points) > _MOST_BARS
    for kind, style in styles.items():
        points = [point for point in _measured(record) if kinds[point.name] == kind]
        for point in points:
            has_bars = point.name in on_front or not (is_crowded and point.is_control)
            bars = [[100 * (point.accuracy - point.accuracy_ci[0])], [100 * (point.accuracy_ci[1] - point.accuracy)]]
            axes.errorbar(
                [flops_ratio(point, record.convention)],
                [100 * point.accuracy],
                yerr=bars,
                fmt=style.marker,
                markersize=8.5 * style.size,
                color=style.colour,
                markeredgecolor="white",
                markeredgewidth=1.0,
                elinewidth=1.3 if has_bars else 0,
                capsize=2.5 if has_bars else 0,
                alpha=1.0 if point.name in on_front else _FADED,
                zorder=4 if point.name in on_front else 3,
            )


def _labels(record: StudyRecord) -> list[tuple[float, float, str, str]]:
    """(x, y, text, colour) of what is named in the picture: controls, the cheapest equal of dense and the knee.

    Of many controls, those on the front and the dense one; of a dial, none: its points are one curve.
    """
    labels, styles, kinds = [], styles_of(record.points), kinds_of(record.points)
    controls = [point for point in _measured(record) if point.is_control and DIAL not in point.params]
    is_crowded = len(controls) > _MOST_LABELS
    for point in controls:
        cost, colour = flops_ratio(point, record.convention), styles[kinds[point.name]].colour
        text = label_of_method(point.method) if is_crowded else point.name.replace("_", " ")
        if not is_crowded or point.on_front or is_dense(point.method):
            labels.append((cost, 100 * point.accuracy, text, colour))
    notable = (cheapest_as_good_as_dense(record.points, record.convention), knee(record.points, record.convention))
    for point in {point.name: point for point in notable if point is not None and point not in controls}.values():
        cost = flops_ratio(point, record.convention)
        text = f"{percent(point.accuracy)}% at {cost:.2f} of the FLOPs"
        labels.append((cost, 100 * point.accuracy, text, styles[kinds[point.name]].colour))
    return labels


def _obstacles(record: StudyRecord) -> list[tuple[float, float, float, float]]:
    """(x, y, low, high) of every drawn point with its interval: labels keep clear of them."""
    return [
        (flops_ratio(point, record.convention), 100 * point.accuracy, 100 * low, 100 * high)
        for point in _measured(record)
        for low, high in [point.accuracy_ci]
    ]


def _headings(figure: Figure, axes: Axes, record: StudyRecord) -> None:
    count = f"{len(record.points)} points under one recipe, the same held-out questions for each. "
    figure.text(0.026, 0.935, f"Accuracy against compute: {record.name}", fontsize=15, fontweight="bold", color=INK)
    figure.text(0.026, 0.89, count + "Up and left is better; faded: dominated.", fontsize=10, color=QUIET)
    handles = [Line2D([], [], color=FRONT_LINE, linewidth=2.2, label="Pareto front")]
    if record.claims:
        handles.append(Line2D([], [], color=HULL_LINE, linestyle="--", label=HULL))
    for style in styles_of(record.points).values():
        handle = Line2D([], [], marker=style.marker, color=style.colour, linestyle="", label=style.label)
        handle.set(markersize=8.5 * style.size, markeredgecolor="white")
        handles.append(handle)
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.012, 0.995),
        ncols=len(handles),
        frameon=False,
        fontsize=10 if len(handles) <= _WIDE_LEGEND else 8.5,
        labelcolor=INK,
        handletextpad=0.4,
        columnspacing=1.6 if len(handles) <= _WIDE_LEGEND else 1.1,
    )
    volume = hypervolume(record.points, convention=record.convention)
    corner = f"accuracy {REFERENCE.accuracy:g}, ratio {REFERENCE.flops_ratio:g}"
    note = f"{interval_note(record)}. Hypervolume of the front {volume:.3f} (reference: {corner})."
    figure.text(0.026, 0.028, note, fontsize=9, color=QUIET)
