"""Scenes of coloured shapes and a digit, and what a detector of middling quality would propose on them.

Sizes are spec chatrex 9's: 2 to 6 objects, a third of them of a kind that is there already, lines as clutter; proposals
are one jittered box for each object, now and then one beside it, and background. Shape letters: M objects, N proposals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dpn_model.objects.boxes import FloatArray, iou_matrix
from dpn_platform.demo.drawing import COLOUR_VALUES, DIGITS
from dpn_platform.demo.recipe import DETECTION_SIDE

COLOURS = tuple(COLOUR_VALUES)
SHAPES = ("circle", "square", "triangle", "diamond")
MAX_PROPOSALS = 16
_SIZES = (16, 44)
_DOT = 3  # pixels a dot of a digit
_DIGIT = (5 * _DOT, 7 * _DOT)
_MAX_OVERLAP = 0.05

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """What is on a picture.

    Attributes:
        boxes: float64[M, 4], (x1, y1, x2, y2) in pixels.
        kinds: int64[M, 2], places in `COLOURS` and `SHAPES`.
        digit: what stands on the picture beside them, which nobody proposes a box for.
        digit_box: float64[4].
    """

    boxes: FloatArray
    kinds: IntArray
    digit: str
    digit_box: FloatArray

    def categories(self) -> list[str]:
        """Of every object: "red circle"."""
        return [name_of(kind) for kind in self.kinds.tolist()]


@dataclass(frozen=True)
class Proposals:
    """What a detector offers, best first.

    Attributes:
        boxes: float64[N, 4].
        scores: float64[N].
        objects: int64[N], the object that a box is on at an IoU of half and more, one to one; -1: none.
    """

    boxes: FloatArray
    scores: FloatArray
    objects: IntArray


def name_of(kind: list[int]) -> str:
    """A category's name."""
    return f"{COLOURS[kind[0]]} {SHAPES[kind[1]]}"


def draw_scene(rng: np.random.Generator) -> Scene:
    """Two to six objects and a digit that hardly overlap."""
    digit = str(rng.integers(10))
    places = [_place(rng, np.zeros((0, 4)), _DIGIT)]
    kinds: list[list[int]] = []
    for _ in range(int(rng.integers(2, 7))):
        side = int(rng.integers(*_SIZES))
        places.append(_place(rng, np.array(places), (side, side)))
        again = kinds and rng.random() < 0.35
        kinds.append(
            kinds[int(rng.integers(len(kinds)))]
            if again
            else [int(rng.integers(len(COLOURS))), int(rng.integers(len(SHAPES)))]
        )
    return Scene(np.array(places[1:]), np.array(kinds), digit, places[0])


def _place(rng: np.random.Generator, others: FloatArray, extent: tuple[int, int]) -> FloatArray:
    """A box of that width and height that overlaps no other by much; after many tries, the last one tried."""
    for _ in range(60):
        corner = np.array([rng.integers(0, DETECTION_SIDE - extent[0]), rng.integers(0, DETECTION_SIDE - extent[1])])
        box = np.array([*corner, *(corner + extent)], dtype=np.float64)
        if not len(others) or iou_matrix(box[None], others).max() <= _MAX_OVERLAP:
            break
    return box


def paint(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """RGB[128, 128]; ground, tints and four lines of clutter vary."""
    image = Image.new("RGB", (DETECTION_SIDE, DETECTION_SIDE), tuple(int(value) for value in rng.integers(20, 60, 3)))
    draw = ImageDraw.Draw(image)
    for line in rng.integers(0, DETECTION_SIDE, (4, 4)).tolist():
        draw.line(line, fill=tuple(int(value) for value in rng.integers(60, 120, 3)), width=1)
    for box, (colour, shape) in zip(scene.boxes.tolist(), scene.kinds.tolist(), strict=True):
        tint = np.clip(np.add(COLOUR_VALUES[COLOURS[colour]], rng.integers(-15, 16, 3)), 0, 255)
        _draw_shape(draw, SHAPES[shape], box, tuple(tint.tolist()))
    dots = np.array([[mark == "1" for mark in row] for row in DIGITS[scene.digit].split()])
    glyph = Image.fromarray(np.kron(dots, np.ones((_DOT, _DOT), dtype=bool)))
    image.paste((225, 225, 225), (int(scene.digit_box[0]), int(scene.digit_box[1])), glyph)
    return image


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, box: list[float], fill: tuple[int, ...]) -> None:
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    middle = ((left + right) / 2, (top + bottom) / 2)
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "triangle":
        draw.polygon([(left, bottom), (right, bottom), (middle[0], top)], fill=fill)
    else:
        draw.polygon([(left, middle[1]), (middle[0], top), (right, middle[1]), (middle[0], bottom)], fill=fill)


def propose(scene: Scene, rng: np.random.Generator) -> Proposals:
    """One box close to each object, some beside them, background up to 2M + 3 boxes or `MAX_PROPOSALS`."""
    offered: list[tuple[FloatArray, float]] = []
    wanted = min(MAX_PROPOSALS, 2 * len(scene.boxes) + 3)
    for box in scene.boxes:
        side = np.tile(box[2:] - box[:2], 2)
        offered.append((box + side * rng.uniform(-0.08, 0.08, 4), rng.uniform(0.5, 0.95)))
        if rng.random() < 0.6:
            beside = _beside(box, rng)
            offered += [] if beside is None else [(beside, rng.uniform(0.3, 0.7))]
    for _ in range(60):
        if len(offered) >= wanted:
            break
        corner, extent = rng.uniform(0, DETECTION_SIDE - _SIZES[0], 2), rng.uniform(*_SIZES, 2)
        box = np.concatenate([corner, np.minimum(corner + extent, DETECTION_SIDE)])
        if iou_matrix(box[None], scene.boxes).max() < 0.3:
            offered.append((box, rng.uniform(0.3, 0.6)))
    offered = sorted(offered[:MAX_PROPOSALS], key=lambda one: -one[1])
    boxes = np.clip(np.array([box for box, _ in offered]), 0, DETECTION_SIDE)
    boxes = np.round(boxes, 1)
    scores = np.round([score for _, score in offered], 3)
    return Proposals(boxes, scores, _matched(boxes, scene.boxes))


def _beside(box: FloatArray, rng: np.random.Generator) -> FloatArray | None:
    """A shifted and rescaled box that overlaps by 0.1 to 0.45; None where none was found."""
    side = box[2:] - box[:2]
    for _ in range(20):
        centre = (box[:2] + box[2:]) / 2 + side * rng.uniform(-0.6, 0.6, 2)
        half = side * rng.uniform(0.7, 1.4, 2) / 2
        moved = np.clip(np.concatenate([centre - half, centre + half]), 0, DETECTION_SIDE)
        if 0.1 <= iou_matrix(moved[None], box[None])[0, 0] <= 0.45:
            return moved
    return None


def _matched(boxes: FloatArray, objects: FloatArray) -> IntArray:
    """Pairs in order of their overlap, each box and each object once."""
    overlaps = iou_matrix(boxes, objects)
    found = np.full(len(boxes), -1)
    while overlaps.size and overlaps.max() >= 0.5:
        box, thing = np.unravel_index(overlaps.argmax(), overlaps.shape)
        found[box] = thing
        overlaps[box, :] = overlaps[:, thing] = 0
    return found
