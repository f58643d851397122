"""The front drawn in a terminal: accuracy against FLOPs ratio in characters, readable without colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.text import Text

from dpn_model.methods.registry import DENSE
from dpn_platform.evaluation.pareto import flops_ratio, front_points, is_measured
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.reports.look.labels import AXIS_ACCURACY
from dpn_platform.reports.look.methods import is_dense

NARROWEST, WIDEST = 40, 120
_MARGIN = 7  # left of the frame: the labels of the axis
_MOST_LABELS = 12
_BELOW = "↓"
_DIM, _QUIET, _FRONT = "dim", "", "bold green"
#: (on the front, elsewhere, name) of every kind of point
_MARKS = {DENSE: ("◆", "◇", DENSE), "control": ("■", "□", "control"), "searched": ("●", "○", "searched")}


class _Canvas:
    """Characters with a style each, row 0 on top."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[(" ", _QUIET)] * width for _ in range(height)]

    def put(self, column: int, row: int, text: str, style: str = _QUIET) -> None:
        for place, character in enumerate(text, start=column):
            if 0 <= place < self.width:
                self._cells[row][place] = (character, style)

    def is_free(self, column: int, row: int, length: int) -> bool:
        if not (0 <= row < self.height and column >= 0 and column + length <= self.width):
            return False
        return all(character == " " for character, _ in self._cells[row][column : column + length])

    def rows(self) -> Iterator[Text]:
        for cells in self._cells:
            yield Text.assemble(*cells)


class _Scale:
    """From a range of values to cells, the ends on the first and the last one."""

    def __init__(self, low: float, high: float, cells: int) -> None:
        if high - low < 1e-9:
            low, high = low - 0.05, high + 0.05
        self.low, self.high, self._cells = low, high, cells

    def __call__(self, value: float) -> int:
        share = (value - self.low) / (self.high - self.low)
        return min(self._cells - 1, max(0, round(share * (self._cells - 1))))

    def ticks(self, at_most: int) -> list[float]:
        """Round numbers inside the range."""
        rough = (self.high - self.low) / max(1, at_most)
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def front_drawing(
    points: Sequence[Point], convention: Convention, width: int, named: Sequence[str] = (), height: int | None = None
) -> Text:
    """The points of a study, the steps of its front, two axes and what the marks mean.

    Args:
        points: seeds of one setting as one.
        convention: of the cost.
        width: of the terminal, in cells; drawn is between 40 and 120.
        named: points whose names are written first; other names of the front follow where there is room.
        height: of the frame, in cells; default: a third of the width, 10 to 24.
    """
    measured = [point for point in points if is_measured(point, convention)]
    if not measured:
        return Text("nothing of this study has been measured yet")
    width = min(WIDEST, max(NARROWEST, width))
    height = height or min(24, max(10, width // 4))
    canvas = _Canvas(width - _MARGIN - 2, height)
    front = front_points(measured, convention)
    costs = [flops_ratio(point, convention) for point in measured]
    across = _Scale(min(costs), max(costs), canvas.width - 2)
    up = _Scale(_floor(measured, front), max(point.accuracy for point in measured), height)
    places = {
        point.name: (1 + across(flops_ratio(point, convention)), height - 1 - up(point.accuracy)) for point in measured
    }
    _draw_steps(canvas, [places[point.name] for point in front])
    on_front = {point.name for point in front}
    for point in sorted(measured, key=lambda point: (point.name in on_front, is_dense(point.method))):
        low = point.accuracy < up.low
        mark = _BELOW if low else _MARKS[_kind(point)][point.name not in on_front]
        canvas.put(*places[point.name], mark, _FRONT if point.name in on_front else _QUIET)
    _write_names(canvas, places, named, front)
    lines = [Text(AXIS_ACCURACY), *_framed(canvas, up), *_below(across, convention, canvas.width)]
    num_below = sum(point.accuracy < up.low for point in measured)
    return Text("\n").join([*lines, _legend(measured, on_front, num_below)])


def _floor(points: Sequence[Point], front: Sequence[Point]) -> float:
    """The lowest accuracy drawn: far below the front, points would press everything else together."""
    low, high = front[0].accuracy, front[-1].accuracy
    return max(min(point.accuracy for point in points), low - max(0.5 * (high - low), 0.05))


def _kind(point: Point) -> str:
    return DENSE if is_dense(point.method) else "control" if point.is_control else "searched"


def _draw_steps(canvas: _Canvas, corners: Sequence[tuple[int, int]]) -> None:
    """What the front's points reach: level to the next dearer one, then up to it; after the last, to the edge."""
    for (column, row), (next_column, next_row) in zip(corners, corners[1:], strict=False):
        canvas.put(column, row, "─" * (next_column - column), _DIM)
        for between in range(next_row, row):
            canvas.put(next_column, between, "│", _DIM)
        if next_row < row:
            canvas.put(next_column, row, "┘", _DIM)
    column, row = corners[-1]
    canvas.put(column, row, "─" * (canvas.width - column), _DIM)


def _write_names(
    canvas: _Canvas, places: dict[str, tuple[int, int]], named: Sequence[str], front: Sequence[Point]
) -> None:
    """Left of a point, where nothing lies above the front, else on the row above; left out where there is no room."""
    wanted = dict.fromkeys([*(name for name in named if name in places), *(point.name for point in front)])
    for name in list(wanted)[:_MOST_LABELS]:
        column, row = places[name]
        for left, line in ((column - 1 - len(name), row), (column - len(name), row - 1), (column + 1, row - 1)):
            if canvas.is_free(left - 1, line, len(name) + (1 if line == row else 2)):
                canvas.put(left, line, name)
                break


def _framed(canvas: _Canvas, up: _Scale) -> Iterator[Text]:
    labels = {canvas.height - 1 - up(tick): f"{100 * tick:.1f}" for tick in up.ticks(canvas.height // 3)}
    for number, row in enumerate(canvas.rows()):
        label = labels.get(number, "")
        yield Text.assemble(f"{label:>{_MARGIN - 1}} {'┤' if label else '│'}", row)


def _below(across: _Scale, convention: Convention, width: int) -> Iterator[Text]:
    line, labels = ["─"] * width, [" "] * (width + _MARGIN + 2)
    for tick in across.ticks(max(2, width // 12)):
        column, text = 1 + across(tick), f"{tick:.3g}"
        line[column] = "┬"
        start = column + _MARGIN + 1 - len(text) // 2
        labels[start : start + len(text)] = text
    yield Text(" " * _MARGIN + "└" + "".join(line))
    yield Text("".join(labels).rstrip())
    yield Text(f"{f'FLOPs ratio ({convention})':>{width + _MARGIN + 1}}")


def _legend(points: Sequence[Point], on_front: set[str], num_below: int) -> Text:
    parts = []
    for kind, (filled, open_mark, name) in _MARKS.items():
        members = [point.name in on_front for point in points if _kind(point) == kind]
        marks = (filled if any(members) else "") + (open_mark if not all(members) else "")
        parts += [f"{marks} {name}"] if members else []
    parts.append("filled and joined: the front")
    parts += [f"{_BELOW} {num_below} lower than drawn"] if num_below else []
    return Text("   ".join(parts), style=_DIM)
