"""What a record says of boxes: those that its `<objN>` name, those a detector proposed, and what is true."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpn_model.objects.boxes import FloatArray, box_array, check_boxes
from dpn_model.special_texts import MAX_OBJECTS

#: what `truth` says of its boxes, whatever the data set
_TRUTH = ("boxes", "categories", "crowd", "area")


@dataclass(frozen=True)
class Objects:
    """Boxes that a model is shown beside a picture; `<objN>` names the N-th.

    Attributes:
        boxes: float64[N, 4], (x1, y1, x2, y2) in pixels of the picture as it was.
        size: (width, height) of that picture.
        scores: float64[N] of who proposed them, best first; None for true boxes.
    """

    boxes: FloatArray
    size: tuple[int, int]
    scores: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Truth:
    """What detection is scored against.

    Attributes:
        boxes: float64[M, 4].
        categories: of each.
        crowd: whether each is a group that detections may lie in without being counted (COCO).
        extra: what else a data set says of it (LVIS: how frequent categories are, which are known to be absent);
            plain JSON values, kept as they are.
        area: float64[M], pixels inside each object's outline, which COCO tells small from large by; None: not known.
    """

    boxes: FloatArray
    categories: tuple[str, ...]
    crowd: tuple[bool, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    area: FloatArray | None = None


@dataclass(frozen=True)
class ObjectRecord:
    """A record's boxes.

    Attributes:
        boxes: float64[N, 4], what the turns' `<objN>` name.
        scores: float64[N] where a detector proposed them; None for true ones.
        truth: None where the boxes that the answer names are all that is true.
        proposed: (float64[P, 4], float64[P]) of a detector, best first, beside `boxes`.
    """

    boxes: FloatArray
    scores: FloatArray | None = None
    truth: Truth | None = None
    proposed: tuple[FloatArray, FloatArray] | None = None

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any], size: tuple[int, int] | None = None) -> ObjectRecord:
        """From the fields `boxes`, `scores`, `truth` and `proposals` of a record.

        Args:
            fields: plain JSON values; `truth` is {boxes, categories, crowd, area}, `proposals` {boxes, scores}.
            size: (width, height) of the picture; None where it is not known yet.

        Raises:
            ValueError: what these fields may not be, in one line.
        """
        boxes = _boxes(fields.get("boxes"), size, "boxes")
        if len(boxes) > MAX_OBJECTS:
            raise ValueError(f"{len(boxes)} boxes; allowed: at most {MAX_OBJECTS}")
        proposals = _mapping(fields.get("proposals"), "proposals")
        proposed = None
        if proposals is not None:
            offered = _boxes(proposals.get("boxes"), size, "proposals.boxes")
            scores = _scores(proposals.get("scores"), len(offered), "proposals.scores")
            if scores is None:
                raise ValueError("proposals have no scores; wanted one for each box, best first")
            proposed = (offered, scores)
        scores = _scores(fields.get("scores"), len(boxes), "scores")
        return cls(boxes, scores, _truth(fields.get("truth"), size), proposed)

    @classmethod
    def of_json(cls, text: str) -> ObjectRecord:
        """From a shard's column. Raises ValueError as `of_fields`."""
        return cls.of_fields(json.loads(text))

    def to_json(self) -> str:
        """For a shard's column."""
        fields: dict[str, Any] = {"boxes": self.boxes.tolist()}
        if self.scores is not None:
            fields["scores"] = self.scores.tolist()
        if self.truth is not None:
            truth = self.truth
            known = {"boxes": truth.boxes.tolist(), "categories": truth.categories, "crowd": truth.crowd}
            area = {} if truth.area is None else {"area": truth.area.tolist()}
            fields["truth"] = {**truth.extra, **known, **area}
        if self.proposed is not None:
            fields["proposals"] = {"boxes": self.proposed[0].tolist(), "scores": self.proposed[1].tolist()}
        return json.dumps(fields)


def _boxes(found: Any, size: tuple[int, int] | None, what: str) -> FloatArray:
    if not isinstance(found, list):
        raise ValueError(f"{what} is {type(found).__name__}; wanted a list of [x1, y1, x2, y2]")
    try:
        boxes = box_array(found)
    except ValueError as error:
        raise ValueError(str(error).replace("boxes", what, 1)) from None
    check_boxes(boxes, size, what)
    return boxes


def _scores(found: Any, count: int, what: str) -> FloatArray | None:
    if found is None:
        return None
    try:
        scores = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} are no list of numbers") from None
    if scores.shape != (count,):
        raise ValueError(f"{what} hold {scores.size} numbers for {count} boxes; wanted one for each")
    if not np.isfinite(scores).all():
        raise ValueError(f"{what} are not all finite")
    if (np.diff(scores) > 0).any():
        place = int(np.argmax(np.diff(scores) > 0)) + 1
        raise ValueError(f"{what} are not sorted: {what}[{place}] is larger than the one before; wanted best first")
    return scores


def _truth(found: Any, size: tuple[int, int] | None) -> Truth | None:
    truth = _mapping(found, "truth")
    if truth is None:
        return None
    boxes, categories = _boxes(truth.get("boxes"), size, "truth.boxes"), truth.get("categories")
    if not isinstance(categories, list) or not all(isinstance(one, str) and one.strip() for one in categories):
        raise ValueError("truth.categories is no list of texts; wanted one for each of truth.boxes")
    crowd = truth.get("crowd") or [False] * len(boxes)
    if not isinstance(crowd, list):
        raise ValueError(f"truth.crowd is {type(crowd).__name__}; wanted a list of true and false, one for each box")
    if len(categories) != len(boxes) or len(crowd) != len(boxes):
        raise ValueError(f"truth has {len(boxes)} boxes, {len(categories)} categories and {len(crowd)} crowd marks")
    extra = {name: value for name, value in truth.items() if name not in _TRUTH}
    return Truth(boxes, tuple(categories), tuple(map(bool, crowd)), extra, _area(truth.get("area"), len(boxes)))


def _area(found: Any, count: int) -> FloatArray | None:
    if found is None:
        return None
    try:
        area = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("truth.area is no list of numbers; wanted pixels, one for each of truth.boxes") from None
    if area.shape != (count,):
        raise ValueError(f"truth.area holds {area.size} numbers for {count} boxes; wanted one for each")
    if not (np.isfinite(area) & (area >= 0)).all():
        raise ValueError("truth.area holds what is no number of pixels; wanted 0 or more for each box")
    return area


def _mapping(found: Any, what: str) -> Mapping[str, Any] | None:
    if found is None or isinstance(found, Mapping):
        return found
    raise ValueError(f"{what} is {type(found).__name__}; wanted an object")
