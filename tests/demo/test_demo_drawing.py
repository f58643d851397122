"""Pictures of the demo set show what the scene says, where it says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dpn_platform.demo.drawing import COLOUR_VALUES, COLOURS, DIGITS, PLACES, SHAPES, SIDE, Item, draw_items

SIZE = 96
CELL = SIZE // SIDE


def picture(*items: Item, seed: int = 0, size: int = SIZE) -> Image.Image:
    return draw_items(items, np.random.default_rng(seed), size)


def drawn(image: Image.Image) -> np.ndarray:
    """bool[size, size]: pixels that are not the ground, the colour of the first pixel of the last row."""
    pixels = np.asarray(image).astype(int)
    return np.abs(pixels - pixels[-1, 0]).max(axis=-1) > 0


@pytest.mark.parametrize("content", [*SHAPES, *DIGITS])
@pytest.mark.parametrize("cell", [0, 6, 12, 15])
def test_a_thing_stays_in_its_cell(content: str, cell: int) -> None:
    for seed in range(20):
        rows, columns = np.nonzero(drawn(picture(Item(cell, content, "red"), seed=seed)))
        assert set(rows // CELL) == {cell // SIDE}
        assert set(columns // CELL) == {cell % SIDE}


@pytest.mark.parametrize("colour", COLOURS)
def test_the_nearest_named_colour_is_the_right_one(colour: str) -> None:
    for seed in range(20):
        image = picture(Item(5, "square", colour), seed=seed)
        seen = np.asarray(image)[drawn(image)].mean(axis=0)
        assert min(COLOURS, key=lambda name: np.abs(seen - COLOUR_VALUES[name]).sum()) == colour


def test_digits_differ_in_many_dots() -> None:
    dots = {digit: np.array(list(rows.replace(" ", ""))) for digit, rows in DIGITS.items()}
    assert all(dots[a].size == 35 for a in dots)
    assert min((dots[a] != dots[b]).sum() for a in dots for b in dots if a != b) >= 3


@pytest.mark.parametrize("digit", DIGITS)
def test_a_digit_is_its_dots_three_pixels_wide(digit: str) -> None:
    mask = drawn(picture(Item(5, digit, "white"), seed=3))
    rows, columns = np.nonzero(mask)
    height = rows.max() - rows.min() + 1
    dots = np.array([[dot == "1" for dot in row] for row in DIGITS[digit].split()])
    assert height == 21
    assert mask.sum() == 9 * dots.sum()
    assert columns.max() - columns.min() + 1 == 3 * np.ptp(np.nonzero(dots)[1]) + 3


def test_place_names_count_columns_by_letter_and_rows_by_number() -> None:
    assert [PLACES.index(name) for name in ("a1", "d1", "a2", "c3", "d4")] == [0, 3, 4, 10, 15]


def test_other_sizes_are_drawn_to_scale() -> None:
    image = picture(Item(15, "8", "blue"), size=48)
    assert image.size == (48, 48)
    assert drawn(image).any()
