"""The front as an interactive plotly figure, self-contained: works offline and in MLflow's artifact view."""

from __future__ import annotations

import html
import math

import plotly.graph_objects as go

from dpn_platform.evaluation.pareto import flops_ratio, front_points, is_measured, pareto_front, upper_hull
from dpn_platform.evaluation.points import Point, dial_curves
from dpn_platform.reports.look.labels import (
    AXIS_ACCURACY,
    axis_flops,
    interval,
    percent,
    ratio,
    seeds_text,
    short_params,
)
from dpn_platform.reports.look.methods import HULL, HULL_LINE, Style, is_yardstick, kinds_of, styles_of
from dpn_platform.reports.study.record import StudyRecord

FIGURE_ID = "front"
FRONT_COLOUR, FRONT_LINE = "#0f766e", "#5fb5ab"
_FADED = 0.42
_MARKER_PX = 11
_FONT = "Inter, 'Helvetica Neue', 'Segoe UI', Arial, sans-serif"


def front_figure(record: StudyRecord) -> go.Figure:
    """Accuracy against FLOPs ratio with error bars, controls, dominated points faded and the front as a step line."""
    figure = go.Figure()
    _add_front(figure, record)
    flags = dict(
        zip((point.name for point in record.points), pareto_front(record.points, record.convention), strict=True)
    )
    _add_hull(figure, record)
    _add_curves(figure, record)
    kinds = kinds_of(record.points)
    for kind, style in styles_of(record.points).items():
        points = [
            point for point in record.points if kinds[point.name] == kind and is_measured(point, record.convention)
        ]
        on_front = [point for point in points if flags[point.name]]
        dominated = [point for point in points if not flags[point.name]]
        _add_points(figure, record, on_front, style, opacity=1.0, in_legend=True)
        _add_points(figure, record, dominated, style, opacity=_FADED, in_legend=not on_front)
    _lay_out(figure, record)
    return figure


def figure_div(record: StudyRecord) -> str:
    """The figure as an HTML fragment with plotly.js inline; the same record gives the same bytes."""
    text = front_figure(record).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id=FIGURE_ID,
        default_height="520px",
        config={
            "displayModeBar": "hover",
            "displaylogo": False,
            "responsive": True,
            "modeBarButtonsToRemove": ["select2d", "lasso2d"],
            # plotly 7 offers to upload the data to a public service unless told not to.
            "showSendToCloud": False,
            "plotlyServerURL": "",
        },
    )
    return str(text)


def _add_front(figure: go.Figure, record: StudyRecord) -> None:
    front = front_points(record.points, record.convention)
    if not front:
        return
    costs = [flops_ratio(point, record.convention) for point in front]
    # The line goes on to the right: with more FLOPs the dearest point of the front is still the best known.
    reach = max(
        [
            1.0,
            *(
                flops_ratio(point, record.convention)
                for point in record.points
                if is_measured(point, record.convention)
            ),
        ]
    )
    figure.add_scatter(
        x=[*costs, reach],
        y=[*(100 * point.accuracy for point in front), 100 * front[-1].accuracy],
        mode="lines",
        line={"shape": "hv", "width": 2.5, "color": FRONT_LINE},
        name="Pareto front",
        hoverinfo="skip",
        fill="tozeroy",
        fillcolor="rgba(15,118,110,0.06)",
    )


def _add_hull(figure: go.Figure, record: StudyRecord) -> None:
    hull = upper_hull([point for point in record.points if is_yardstick(point.method)], record.convention)
    if not record.claims or len(hull) < 2:
        return
    figure.add_scatter(
        x=[cost for cost, _ in hull],
        y=[100 * accuracy for _, accuracy in hull],
        mode="lines",
        line={"width": 1.5, "color": HULL_LINE, "dash": "dash"},
        name=HULL,
        hoverinfo="skip",
    )


def _add_curves(figure: go.Figure, record: StudyRecord) -> None:
    """One line through the points of a checkpoint's dial."""
    measured = [point for point in record.points if is_measured(point, record.convention)]
    for curve in dial_curves(measured):
        places = sorted((flops_ratio(point, record.convention), 100 * point.accuracy) for point in curve)
        figure.add_scatter(
            x=[cost for cost, _ in places],
            y=[accuracy for _, accuracy in places],
            mode="lines",
            line={"width": 1.2, "color": styles_of(record.points)[kinds_of(record.points)[curve[0].name]].colour},
            opacity=0.5,
            showlegend=False,
            hoverinfo="skip",
        )


def _add_points(
    figure: go.Figure, record: StudyRecord, points: list[Point], style: Style, *, opacity: float, in_legend: bool
) -> None:
    if not points:
        return
    figure.add_scatter(
        x=[flops_ratio(point, record.convention) for point in points],
        y=[100 * point.accuracy for point in points],
        mode="markers",
        name=style.label,
        legendgroup=style.label,
        showlegend=in_legend,
        opacity=opacity,
        marker={
            "symbol": style.plotly_symbol,
            "size": _MARKER_PX * style.size,
            "color": style.colour,
            "line": {"width": 1.2, "color": "white"},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [100 * (point.accuracy_ci[1] - point.accuracy) for point in points],
            "arrayminus": [100 * (point.accuracy - point.accuracy_ci[0]) for point in points],
            "color": style.colour,
            "thickness": 1.3,
            "width": 3,
        },
        customdata=[_hover(point) for point in points],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(point: Point) -> str:
    lines = [
        f"<b>{html.escape(point.name)}</b>",
        f"accuracy {percent(point.accuracy)}%  ({interval(point.accuracy_ci)}){seeds_text(point)}",
        f"FLOPs ratio {', '.join(f'{ratio(value)} {name}' for name, value in point.flops_ratio.items())}",
        f"visual tokens {ratio(point.visual_tokens_mean, 1)} per layer, mean",
    ]
    parameters = html.escape(short_params(point.params))
    return "<br>".join([*lines, parameters] if parameters else lines)


def _lay_out(figure: go.Figure, record: StudyRecord) -> None:
    axis = {"zeroline": False, "showline": True, "ticks": "outside", "gridcolor": "rgba(128,140,155,0.18)"}
    points = [point for point in record.points if is_measured(point, record.convention)]
    bounds = [100 * value for point in points for value in (point.accuracy, *point.accuracy_ci) if math.isfinite(value)]
    margin = max(0.07 * (max(bounds) - min(bounds)), 0.8) if bounds else 0.0
    figure.update_layout(
        template="none",
        font={"family": _FONT, "size": 14, "color": "#334155"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 64, "r": 24, "t": 16, "b": 60},
        xaxis={**axis, "title": {"text": axis_flops(record.convention)}, "tickformat": ".2~f"},
        yaxis={
            **axis,
            "title": {"text": AXIS_ACCURACY},
            "range": [min(bounds) - margin, max(bounds) + margin] if bounds else None,
        },
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": {"size": 13}},
        hoverlabel={"align": "left", "font": {"family": _FONT}},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#94a3b8", "activecolor": FRONT_COLOUR},
    )
