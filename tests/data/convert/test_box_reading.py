"""Corners or sides: decided by boxes that allow one reading alone, and refused where none does or they contradict."""

from __future__ import annotations

import numpy as np
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert.box_reading import LOOKED_AT, corners, decided_reading, possible_readings

SIZE = (100, 80)
EITHER, CORNERS, SIDES = [[10, 10, 30, 40]], [[50, 40, 90, 70]], [[50, 40, 20, 30]]


@pytest.mark.parametrize(
    ("boxes", "readings"),
    [
        (EITHER, ["xyxy", "xywh"]),
        (CORNERS, ["xyxy"]),
        (SIDES, ["xywh"]),
        ([*EITHER, *SIDES], ["xywh"]),
        ([*CORNERS, *SIDES], []),
        # A pixel beyond the edge is rounding, two are not; 95 + 6 is beyond by one.
        ([[95, 10, 100, 20]], ["xyxy"]),
        ([[20, 10, 81, 20]], ["xyxy", "xywh"]),
        ([[20, 10, 82, 20]], ["xyxy"]),
        ([[-1, 0, 101, 81]], ["xyxy", "xywh"]),
        ([[-2, 0, 50, 50]], []),
        ([[5, 5, 5, 9]], ["xywh"]),
        ([[5, 5, 0, 9]], []),
        ([[5, float("nan"), 9, 9]], []),
    ],
)
def test_a_reading_is_possible_if_every_box_has_an_area_in_the_picture(
    boxes: list[list[float]], readings: list[str]
) -> None:
    assert possible_readings(np.asarray(boxes, float), SIZE) == readings


def decide(*lists: list[list[float]]) -> str:
    return decided_reading(((np.asarray(boxes, float), SIZE) for boxes in lists), "x.tsv")


def test_one_list_decides_for_all() -> None:
    assert decide(EITHER, EITHER, CORNERS) == "xyxy"
    assert decide(SIDES, EITHER) == "xywh"
    assert decide(*[EITHER] * (LOOKED_AT + 3), SIDES) == "xywh"
    assert corners(np.asarray(SIDES, float), "xywh").tolist() == [[50, 40, 70, 70]]


def test_what_is_decided_is_not_read_on() -> None:
    assert decide(CORNERS, *[EITHER] * (LOOKED_AT - 1), SIDES) == "xyxy"


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ([EITHER], "of 1 lists of boxes 0 say xyxy, 0 say xywh"),
        ([], "of 0 lists of boxes 0 say xyxy, 0 say xywh"),
        ([CORNERS, SIDES, CORNERS], "of 3 lists of boxes 2 say xyxy, 1 say xywh"),
    ],
)
def test_what_is_ambiguous_is_one_line_that_names_the_option(lists: list[list[list[float]]], told: str) -> None:
    with pytest.raises(DpnError, match=f"x.tsv: {told}; say how to read them by --boxes xyxy.xywh"):
        decide(*lists)
