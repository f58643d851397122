"""Answers about boxes, made on the spot: those of spec chatrex 10.4, and random ones with crowds and ties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpn_model.objects.answers import ParsedAnswer
from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import Objects, Truth
from dpn_platform.benchmarks.objects.image_answers import ImageAnswer

CIRCLE, SQUARE = "circle", "square"


def from_xywh(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    return box_array([[x, y, x + w, y + h] for x, y, w, h in boxes])


def image_answer(
    image: str,
    true: Sequence[tuple[str, Sequence[float]]],
    shown: Sequence[Sequence[float]],
    groups: Mapping[str, tuple[int, ...]],
    *,
    scores: Sequence[float] | None = None,
    asked: Sequence[str] | None = None,
    crowd: Sequence[bool] | None = None,
    confidence: Mapping[int, float] | None = None,
    **dropped: int,
) -> ImageAnswer:
    """Boxes as x, y, width, height; by default the true categories are asked for."""
    categories = tuple(category for category, _ in true)
    return ImageAnswer(
        image,
        Truth(from_xywh([box for _, box in true]), categories, tuple(crowd or [False] * len(true))),
        Objects(from_xywh(shown), (100, 100), None if scores is None else np.array(scores, dtype=np.float64)),
        ParsedAnswer(groups, **dropped),
        tuple(dict.fromkeys(categories)) if asked is None else tuple(asked),
        confidence,
    )


def of_the_specification(**changed: Any) -> list[ImageAnswer]:
    """Spec chatrex 10.4."""
    first = image_answer(
        "im1",
        [(CIRCLE, (10, 10, 20, 20)), (CIRCLE, (60, 10, 20, 20)), (SQUARE, (10, 60, 30, 30))],
        [(10, 10, 20, 20), (62, 11, 20, 20), (10, 60, 30, 30), (12, 14, 20, 20), (80, 80, 10, 10)],
        {CIRCLE: (0, 1, 3), SQUARE: (2,)},
        scores=[0.9, 0.8, 0.7, 0.6, 0.4],
    )
    second = image_answer(
        "im2",
        [(CIRCLE, (30, 30, 40, 40))],
        [(30, 30, 40, 40), (50, 50, 30, 30)],
        {CIRCLE: (0,), SQUARE: (1,)},
        scores=[0.85, 0.5],
    )
    third = image_answer(
        "im3",
        [(SQUARE, (5, 5, 20, 20)), (SQUARE, (50, 50, 40, 40))],
        [(5, 5, 20, 20), (52, 54, 40, 40), (20, 5, 20, 20)],
        {SQUARE: (0, 1)},
        scores=[0.75, 0.65, 0.35],
    )
    return [first, second, third]


def random_answers(seed: int, num_images: int = 12, num_classes: int = 4) -> list[ImageAnswer]:
    """Whole-numbered boxes, near misses, crowds, equal scores, classes without answers and without truth."""
    draw = np.random.default_rng(seed)
    names = [f"class {number}" for number in range(num_classes)]
    answers = []
    for image in range(num_images):
        count = int(draw.integers(0, 6))
        corner, size = draw.integers(0, 120, (count, 2)), draw.integers(8, 120, (count, 2))
        boxes = np.concatenate([corner, size], axis=1)
        categories = [names[number] for number in draw.integers(0, num_classes - 1, count)]
        near = boxes.repeat(2, axis=0) + draw.integers(-6, 7, (2 * count, 4))
        far = np.concatenate([draw.integers(0, 120, (4, 2)), draw.integers(8, 60, (4, 2))], axis=1)
        shown = np.concatenate([near, far])
        shown[:, 2:] = np.maximum(shown[:, 2:], 2)
        shown[:, :2] = np.maximum(shown[:, :2], 0)
        right = [*np.repeat(categories, 2).tolist(), *draw.choice(names[:-1], 4)]
        said = [one if draw.random() < 0.8 else str(draw.choice(names)) for one in right]
        kept = draw.random(len(shown)) < 0.7
        groups = {name: tuple(i for i, one in enumerate(said) if one == name and kept[i]) for name in names}
        answers.append(
            image_answer(
                f"image {image:02d}",
                list(zip(categories, boxes.tolist(), strict=True)),
                shown.tolist(),
                groups,
                scores=np.sort(draw.random(len(shown)).round(1))[::-1].tolist(),
                asked=names,
                crowd=(draw.random(count) < 0.25).tolist(),
                confidence={index: float(draw.random()) for index in range(len(shown))},
            )
        )
    return answers
