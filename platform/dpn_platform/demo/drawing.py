"""Drawing scenes: coloured shapes and digits in the cells of a 4x4 field, a few thousand pictures a second.

At 96 pixels a cell is 24x24, two by two visual patches of 12: one 2x2 pooling leaves a token per cell, the next one
mixes neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOUR_VALUES = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "purple": (150, 60, 180),
    "white": (245, 245, 245),
}
COLOURS = tuple(COLOUR_VALUES)
SHAPES = ("circle", "square", "triangle")
SIDE = 4
#: pixels by which things stand off the middle of their cells at most
JITTER = 1
#: cell number = row * SIDE + column; columns are a to d from the left, rows 1 to 4 from the top
PLACES = tuple(f"{column}{row}" for row in "1234" for column in "abcd")
#: 5x7 dots a digit, row by row; drawn at 3 pixels a dot: 15x21
DIGITS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
}


@dataclass(frozen=True)
class Item:
    """What stands in a cell: the name of a shape or a digit, and the name of its colour."""

    cell: int
    content: str
    colour: str


def draw_items(items: tuple[Item, ...], rng: np.random.Generator, size: int) -> Image.Image:
    """RGB picture of the items on a dark ground; place within the cell, tint and ground vary."""
    ground = tuple(int(value) for value in rng.integers(20, 60, 3))
    image = Image.new("RGB", (size, size), ground)
    draw = ImageDraw.Draw(image)
    cell = size // SIDE
    for item in items:
        tint = rng.integers(-15, 16, 3)
        colour = tuple(int(value) for value in np.clip(np.add(COLOUR_VALUES[item.colour], tint), 0, 255))
        top, left = item.cell // SIDE * cell, item.cell % SIDE * cell
        if item.content in DIGITS:
            scale = max(1, size // 32)
            dots = np.array([[mark == "1" for mark in row] for row in DIGITS[item.content].split()])
            glyph = Image.fromarray(np.kron(dots, np.ones((scale, scale), dtype=bool)))
            corner = (left + _margin(rng, cell, glyph.width), top + _margin(rng, cell, glyph.height))
            image.paste(colour, corner, glyph)
        else:
            side = cell * 3 // 4
            _draw_shape(
                draw, item.content, left + _margin(rng, cell, side), top + _margin(rng, cell, side), side, colour
            )
    return image


def _margin(rng: np.random.Generator, cell: int, extent: int) -> int:
    """Offset of something `extent` wide that stands in the middle of a cell, a pixel more or less."""
    return (cell - extent) // 2 + int(rng.integers(-JITTER, JITTER + 1))


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, left: int, top: int, side: int, colour: tuple[int, ...]) -> None:
    right, bottom = left + side, top + side
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=colour)
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=colour)
    else:
        draw.polygon([(left, bottom), (right, bottom), (left + side // 2, top)], fill=colour)
