"""The front in characters: every mark where it belongs, at every width, without colour."""

from __future__ import annotations

import math

import pytest
from rich.console import Console

from dpn_platform.reports.study.terminal import front_drawing
from tests.reports.conftest import make_point, make_points

WIDTHS = (60, 80, 120)


def drawn(points, width=80, **more):
    return front_drawing(points, "swiglu", width, **more).plain.split("\n")


def frame_of(lines):
    """The cells right of the axis."""
    return [line.partition("┤" if "┤" in line else "│")[2] for line in lines if "┤" in line[:9] or "│" in line[:8]]


def places(lines, marks):
    cells = ((row, column, one) for row, line in enumerate(frame_of(lines)) for column, one in enumerate(line))
    return {(row, column) for row, column, one in cells if one in marks}


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_as_wide_as_the_terminal_and_no_wider(width):
    lines = drawn(make_points(), width, named=["dense", "dpn_02"])
    assert max(map(len, lines[:-1])) <= width
    assert max(map(len, frame_of(lines))) >= width - 12
    assert len(lines[-1]) < 80


@pytest.mark.parametrize(("width", "drawn_width"), [(10, 40), (1000, 120)])
def test_widths_that_nothing_could_be_read_in_are_not_followed(width, drawn_width):
    lines = drawn(make_points(), width)
    assert max(map(len, lines[:-1])) <= drawn_width
    assert max(map(len, lines[:-1])) > drawn_width - 5


@pytest.mark.parametrize("width", WIDTHS)
def test_dearer_is_farther_right_and_better_higher(width):
    points = [make_point("dpn-00", "dpn", 0.3), make_point("dpn-01", "dpn", 0.6), make_point("dpn-02", "dpn", 0.9)]
    found = sorted(places(drawn(points, width), "●"), key=lambda place: place[1])
    assert len(found) == 3
    rows = [row for row, _ in found]
    assert rows == sorted(rows, reverse=True)
    columns = [column for _, column in found]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=1)
    assert columns[0] <= 2, "the ends of the axis are the ends of the data"


def test_marks_tell_front_control_and_dense_apart():
    lines = drawn(make_points())
    assert len(places(lines, "◆")) == 1
    assert len(places(lines, "■")) == 1
    assert len(places(lines, "□")) == 2, "static_1x2 and random_drop"
    assert places(lines, "●")
    assert places(lines, "○")
    assert lines[-1] == "◆ dense   ■□ control   ●○ searched   filled and joined: the front"


def test_the_legend_names_what_there_is():
    assert drawn([make_point("dense", "dense", 1.0, is_control=True)])[-1] == "◆ dense   filled and joined: the front"


def test_the_front_is_joined_by_steps():
    lines = drawn([make_point("dpn-00", "dpn", 0.3), make_point("dpn-01", "dpn", 0.9)])
    (low, high) = sorted(places(lines, "●"), reverse=True)
    frame = frame_of(lines)
    assert set(frame[low[0]][low[1] + 1 : high[1]]) == {"─"}
    assert frame[low[0]][high[1]] == "┘"
    assert {frame[row][high[1]] for row in range(high[0] + 1, low[0])} == {"│"}


def test_names_stand_where_there_is_room():
    text = "\n".join(drawn(make_points(), 120, named=["dense", "dpn_02", "not there"]))
    assert "dense ◆" in text
    assert "dpn_02 ●" in text
    assert "not there" not in text
    wastes = [2 - number / 10 for number in range(9)]
    crowded = [make_point(f"a-long-name-{waste}", "dpn", 0.6 - waste / 1e3, waste=waste) for waste in wastes]
    lines = drawn([*crowded, make_point("dense", "dense", 1.0)], 60)
    assert len(places(lines, "●")) > 1, "no name covers a point"


def test_points_far_below_do_not_press_the_front_together():
    points = [*make_points(), make_point("lost", "random_drop", 0.7, waste=90.0, is_control=True)]
    lines = drawn(points)
    assert places(lines, "↓") == {(len(frame_of(lines)) - 1, column) for _, column in places(lines, "↓")}
    assert "↓ 1 lower than drawn" in lines[-1]
    rows = [row for row, _ in places(lines, "●◆")]
    assert max(rows) - min(rows) > 5


def test_axes_say_what_they_show():
    lines = drawn(make_points())
    assert lines[0] == "accuracy (%)"
    assert lines[-2].endswith("FLOPs ratio (swiglu)")
    ticks = [float(text) for text in lines[-3].split()]
    assert ticks == sorted(ticks)
    assert 0.4 <= ticks[0] < ticks[-1] <= 1
    assert [line.split()[0] for line in lines if "┤" in line] == sorted(
        (line.split()[0] for line in lines if "┤" in line), reverse=True
    )


def test_what_was_not_measured_is_not_drawn():
    assert drawn([]) == ["nothing of this study has been measured yet"]
    lost = make_point("dpn-00", "dpn", 0.5).model_copy(update={"accuracy": math.nan})
    assert drawn([lost]) == ["nothing of this study has been measured yet"]
    assert len(places(drawn([lost, make_point("dpn-01", "dpn", 0.5)]), "●")) == 1


def test_without_a_terminal_there_is_no_colour(capsys):
    Console(width=80).print(front_drawing(make_points(), "swiglu", 80))
    assert "\x1b" not in capsys.readouterr().out
