"""Which boxes of a record a model is shown: in training, shuffled among a detector's proposals; asked, those alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from dpn_model.objects.answers import Turn, object_indices, renumbered, widened
from dpn_model.objects.boxes import iou_matrix, unlike
from dpn_model.objects.record import ObjectRecord, Objects
from dpn_model.special_texts import MAX_OBJECTS

_GROUPS = re.compile(r"<ground>.*?</ground>\s*<objects>.*?</objects>", re.DOTALL)
#: which proposals are right answers in training, beside the boxes that a record names
Positives = Literal["exact", "iou50"]


def training_view(
    record: ObjectRecord, turns: Sequence[Turn], size: tuple[int, int], seed: int, positives: Positives = "exact"
) -> tuple[Objects, list[Turn]]:
    """A record's boxes and the proposals unlike them, in an order of their own, and the turns with their new numbers.

    In any fixed order an index would tell of itself whether it is an answer.

    Args:
        record: of the sample.
        turns: whose `<objN>` name its `boxes`.
        size: (width, height) of the picture.
        seed: of the order.
        positives: "exact": the boxes that an answer names; "iou50": proposals that overlap one of them by half and
            more are answers too.

    Raises:
        ValueError: the turns name a box that the record does not have.
    """
    boxes, turns = record.boxes, list(turns)
    if record.proposed is not None:
        kept = unlike(record.proposed[0], boxes)[: MAX_OBJECTS - len(boxes)]
        added = record.proposed[0][kept]
        if positives == "iou50" and len(boxes) and len(added):
            on = iou_matrix(boxes, added) >= 0.5
            more = {box: tuple((np.flatnonzero(row) + len(boxes)).tolist()) for box, row in enumerate(on)}
            turns = [_widened(turn, more) for turn in turns]
        boxes = np.concatenate([boxes, added])
    order = np.random.default_rng(seed).permutation(len(boxes))
    return Objects(boxes[order], size), renumbered(turns, order.tolist())


def _widened(turn: Turn, more: Mapping[int, Sequence[int]]) -> Turn:
    """The turn whose answer names, beside each box, those that are as right.

    Where one box was asked about, or boxes were counted, the answer is about those alone.
    """
    question, reply = turn
    if reply is None or object_indices(question) or _GROUPS.sub("", reply).strip():
        return turn
    return question, widened(reply, more)


def asked_view(record: ObjectRecord, question: str, size: tuple[int, int], *, given: bool = False) -> Objects:
    """What an evaluation shows: the 100 best proposals, or the record's own boxes where it has no others.

    Args:
        record: of the question.
        question: one that names boxes itself means the record's own.
        size: (width, height) of the picture.
        given: the record's own in any case: retrieval without a detector's errors.
    """
    if given or record.proposed is None or object_indices(question):
        return Objects(record.boxes, size, record.scores)
    boxes, scores = record.proposed
    return Objects(boxes[:MAX_OBJECTS], size, scores[:MAX_OBJECTS])
