"""Puts text labels beside points so that they cover neither points, error bars nor each other."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

Label = tuple[float, float, str, str]
Obstacle = tuple[float, float, float, float]
Segment = tuple[float, float, float, float]

# Offsets in points with alignments, in order of preference: beside the point first, farther away last.
_CANDIDATES = tuple(
    (dx * far, dy * far, horizontal, vertical)
    for far in (1.0, 1.8, 3.0)
    for dx, dy, horizontal, vertical in (
        (10, 0, "left", "center"),
        (-10, 0, "right", "center"),
        (9, -10, "left", "top"),
        (9, 10, "left", "bottom"),
        (-9, -10, "right", "top"),
        (-9, 10, "right", "bottom"),
        (0, -18, "center", "top"),
        (0, 18, "center", "bottom"),
    )
)
_MARKER_RADIUS_PX = 11.0
_LINE_RADIUS_PX = 3.0
_OUTSIDE = 10.0


def place_labels(
    axes: Axes, labels: Sequence[Label], obstacles: Sequence[Obstacle], segments: Sequence[Segment] = ()
) -> None:
    """Draw each label (x, y, text, colour) at the first offset where it is clear of everything drawn so far.

    Args:
        axes: with its final limits, on a figure with an Agg canvas.
        labels: in data coordinates; earlier ones choose first.
        obstacles: (x, y, low, high) of points with their error bars, in data coordinates.
        segments: (x0, y0, x1, y1) of horizontal and vertical lines to keep clear of.
    """
    taken = [_obstacle_box(axes, obstacle) for obstacle in obstacles]
    taken += [_segment_box(axes, segment) for segment in segments]
    for x, y, text, colour in labels:
        taken.append(_place(axes, x, y, text, colour, taken))


def _obstacle_box(axes: Axes, obstacle: Obstacle) -> Bbox:
    x, y, low, high = obstacle
    low, high = min(low, y), max(high, y)
    (left, bottom), (right, top) = axes.transData.transform([(x, low), (x, high)])
    radius = _MARKER_RADIUS_PX
    return Bbox.from_extents(left - radius, bottom - radius / 2, right + radius, top + radius / 2)


def _segment_box(axes: Axes, segment: Segment) -> Bbox:
    (x0, y0), (x1, y1) = axes.transData.transform([segment[:2], segment[2:]])
    return Bbox.from_extents(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)).padded(_LINE_RADIUS_PX)


def _place(axes: Axes, x: float, y: float, text: str, colour: str, taken: Sequence[Bbox]) -> Bbox:
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    annotation = axes.annotate(
        text,
        (x, y),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=10,
        color=colour,
        zorder=6,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
    best: tuple[float, int, Bbox] | None = None
    for index, (dx, dy, horizontal, vertical) in enumerate(_CANDIDATES):
        annotation.set(position=(dx, dy), ha=horizontal, va=vertical)
        box = annotation.get_window_extent(canvas.get_renderer())
        # Outside stand the numbers of the axes: rather over a faded point than over them.
        badness = _covered(box, taken) + _OUTSIDE * _outside(box, axes.bbox)
        if best is None or badness < best[0]:
            best = (badness, index, box)
        if badness == 0:
            break
    assert best is not None
    dx, dy, horizontal, vertical = _CANDIDATES[best[1]]
    annotation.set(position=(dx, dy), ha=horizontal, va=vertical)
    return best[2]


def _covered(box: Bbox, taken: Sequence[Bbox]) -> float:
    """Area in square pixels that `box` shares with what is already there."""
    shared = (Bbox.intersection(box, other) for other in taken)
    return sum(area.width * area.height for area in shared if area is not None)


def _outside(box: Bbox, frame: Bbox) -> float:
    inside = Bbox.intersection(box, frame)
    return box.width * box.height - (inside.width * inside.height if inside is not None else 0.0)
