"""A run's `routing.json` as a picture: what each site chose while it was trained, what was kept, how sure it was."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpn_platform.reports.look.style import GRID, INK, QUIET
from dpn_platform.reports.routing.figure import KERNEL_COLOURS, RC, plain_axes


def routing_history_svg(history: Mapping[str, Any], title: str) -> str:
    """SVG of `training.router_monitor.routing_history`; the same history gives the same text."""
    sites = history["sites"]
    with matplotlib.rc_context({**RC, "svg.hashsalt": "dpn"}):
        figure = Figure(figsize=(13.0, 6.6), facecolor="white")
        FigureCanvasAgg(figure)
        rows = figure.add_gridspec(2, 1, left=0.06, right=0.985, top=0.87, bottom=0.1, hspace=0.42)
        upper = rows[0].subgridspec(1, len(sites), wspace=0.25)
        for number, site in enumerate(sites):
            _shares(figure.add_subplot(upper[number]), history["steps"], site)
        lower = rows[1].subgridspec(1, 2, wspace=0.15)
        _lines(figure.add_subplot(lower[0]), history, "keep_ratio", "visual tokens kept (%)", with_all=True)
        _lines(figure.add_subplot(lower[1]), history, "entropy", "router's entropy (% of most)")
        figure.text(0.02, 0.95, f"{title}: routing over {history['steps'][-1]:,} steps", fontsize=14, fontweight="bold")
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Creator": "dpn", "Date": None})
    return target.getvalue()


def _shares(axes: Axes, steps: Sequence[int], site: Mapping[str, Any]) -> None:
    """Shares of the experts, stacked; a line without pictures leaves a gap."""
    shares = {name: _percent(values) for name, values in site["expert_shares"].items()}
    plain_axes(axes)
    axes.set_title(f"after layer {site['after_layer']}", fontsize=10, color=INK, loc="left")
    axes.set_ylim(0, 100)
    axes.set_ylabel("samples (%)")
    if not shares:
        axes.text(0.5, 0.5, "no experts to choose from", transform=axes.transAxes, ha="center", color=QUIET)
        return
    colours = [KERNEL_COLOURS[number % len(KERNEL_COLOURS)] for number in range(len(shares))]
    axes.stackplot(steps, *shares.values(), labels=list(shares), colors=colours)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), frameon=False, handlelength=1.0, ncols=len(shares))


def _lines(axes: Axes, history: Mapping[str, Any], name: str, label: str, *, with_all: bool = False) -> None:
    plain_axes(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    for number, site in enumerate(history["sites"]):
        colour = KERNEL_COLOURS[number % len(KERNEL_COLOURS)]
        axes.plot(history["steps"], _percent(site[name]), color=colour, label=f"after layer {site['after_layer']}")
    if with_all:
        axes.plot(history["steps"], _percent(history[name]), color=INK, linestyle="--", label="mean over layers")
    axes.set_ylim(0, 105)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.legend(loc="lower left", frameon=False, ncols=2)


def _percent(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else 100 * value for value in values]
