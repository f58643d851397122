"""Boxes that a record brings: which records have some, whether the fields are sound and every tag names a box."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from dpn_model.objects.boxes import MAX_OBJECTS, unlike
from dpn_model.objects.record import ObjectRecord
from dpn_platform.data.ingest.policy import RejectedError

#: of a record (see `ObjectRecord`); `scores` alone is no sign of boxes: other data sets have a field of that name
FIELDS = ("boxes", "scores", "truth", "proposals")
#: what a model is shown of a box: its index and its feature (spec chatrex 3.1)
TOKENS_PER_BOX = 2
#: tokens of a model that answers by boxes: their indices and the spans of a group
TAG = re.compile(r"<obj[0-9]+>|<objfeat>|</?(?:objects|ground)>")
_FEATURE = "<objfeat>"
_INDEX = re.compile(r"<obj([0-9]+)>")
_SHOWN_CHARACTERS = 20
_OF_RECORDS_WITH_BOXES = re.compile(r"<obj[0-9]+>|<objfeat>|</?objects>")


def object_fields(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record's fields of boxes; None where it has none."""
    named = [record.get(name) for name in ("truth", "proposals")]
    is_ours = record.get("boxes") is not None or any(isinstance(one, Mapping) and "boxes" in one for one in named)
    return {name: record[name] for name in FIELDS if record.get(name) is not None} if is_ours else None


def check_objects(fields: Mapping[str, Any] | None, values: Iterable[str], num_images: int) -> None:
    """Checks what can be known of boxes without the picture.

    Args:
        fields: of `object_fields`.
        values: the texts of all turns.
        num_images: pictures of the record.

    Raises:
        RejectedError: the fields are unsound, the picture is not one, or a tag names no box.
    """
    if fields is None:
        for number, value in enumerate(values, start=1):
            if (stray := _OF_RECORDS_WITH_BOXES.search(value)) is not None:
                raise RejectedError(
                    "stray_object_tag", f"{stray[0][:_SHOWN_CHARACTERS]} in turn {number} of a record without 'boxes'"
                )
        return
    boxes = read_objects(fields).boxes
    if num_images != 1:
        raise RejectedError("boxes_picture", f"{len(boxes)} boxes for {num_images} images; wanted exactly one image")
    for number, value in enumerate(values, start=1):
        _check_tags(number, value, len(boxes))


def read_objects(fields: Mapping[str, Any], size: tuple[int, int] | None = None) -> ObjectRecord:
    """The boxes of these fields, checked.

    Args:
        fields: of `object_fields`.
        size: (width, height) of the picture; None where it is not read yet.

    Raises:
        RejectedError: what the fields may not be, in one line.
    """
    try:
        record = ObjectRecord.of_fields(fields, size)
    except ValueError as error:
        raise RejectedError("bad_boxes", str(error)) from error
    if len(record.boxes) and record.boxes.max() <= 1:
        raise RejectedError("bad_boxes", "all boxes lie in the first pixel; wanted pixels, not shares of the picture")
    return record


def num_shown(record: ObjectRecord) -> int:
    """How many boxes training shows: those that the turns name, and the proposals that are none of them again."""
    offered = 0 if record.proposed is None else len(unlike(record.proposed[0], record.boxes))
    return min(len(record.boxes) + offered, MAX_OBJECTS)


def _check_tags(number: int, value: str, num_boxes: int) -> None:
    names = [str(index) for index in range(num_boxes)]
    for tag in TAG.finditer(value):
        if tag[0] == _FEATURE:
            raise RejectedError("stray_object_tag", f"{_FEATURE} in turn {number}: the model's own prompt sets it")
        if (index := _INDEX.fullmatch(tag[0])) is not None and index[1] not in names:
            allowed = f"<obj0> to <obj{names[-1]}>" if names else "none"
            found = f"{tag[0][:_SHOWN_CHARACTERS]} in turn {number}"
            raise RejectedError("bad_object_index", f"{found} of a record of {num_boxes} boxes; allowed: {allowed}")
