"""What is true of a record: its truth, else the boxes that its gold answer names.

A gold answer names boxes of the record, which may be a detector's. So where there is a truth, the true boxes are those
of it that the named ones overlap most; a number is never held against a number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpn_model.objects.answers import parse_answer
from dpn_model.objects.boxes import iou_matrix
from dpn_model.objects.record import ObjectRecord, Truth

#: of a truth: categories of which the picture may show more than it has boxes of (LVIS)
INCOMPLETE = "incomplete"


def true_boxes(record: ObjectRecord, gold: str, size: tuple[int, int]) -> Truth:
    """Of a picture: every box with its category. Of a gold answer alone, its phrases are the categories.

    Answered boxes of an incomplete category are right or not known, never wrong, as in LVIS's own evaluation: a crowd
    as large as the picture says so.

    Args:
        record: of the picture.
        gold: the gold answer.
        size: (width, height) of the picture.
    """
    if record.truth is not None:
        return _with_crowds(record.truth, size)
    groups = parse_answer(gold, len(record.boxes)).groups
    pairs = [(phrase, index) for phrase, indices in groups.items() for index in indices]
    boxes = record.boxes[[index for _, index in pairs]]
    return Truth(boxes, tuple(phrase for phrase, _ in pairs), (False,) * len(pairs))


def _with_crowds(truth: Truth, size: tuple[int, int]) -> Truth:
    names = [name for name in truth.extra.get(INCOMPLETE, ()) if isinstance(name, str)]
    if not names:
        return truth
    whole = [[0.0, 0.0, *map(float, size)]] * len(names)
    return replace(
        truth,
        boxes=np.concatenate([truth.boxes, whole]),
        categories=(*truth.categories, *names),
        crowd=(*truth.crowd, *[True] * len(names)),
        area=None if truth.area is None else np.append(truth.area, [float(np.prod(size))] * len(names)),
    )


def meant_boxes(record: ObjectRecord, gold: str, expression: str) -> Truth:
    """Of an expression: the boxes that it means, which are its category; none where it means nothing."""
    named = record.boxes[list(parse_answer(gold, len(record.boxes)).indices)]
    boxes = named
    if record.truth is not None and len(named) and len(record.truth.boxes):
        overlap = iou_matrix(named, record.truth.boxes)
        nearest = record.truth.boxes[overlap.argmax(axis=1)]
        boxes = np.unique(np.where(overlap.max(axis=1)[:, None] > 0, nearest, named), axis=0)
    return Truth(boxes, (expression,) * len(boxes), (False,) * len(boxes))
