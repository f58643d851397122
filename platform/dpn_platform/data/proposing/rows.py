"""Proposals for the rows of one shard: pictures to the source, boxes into the column `objects`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from dpn_model.objects.boxes import FloatArray, box_array
from dpn_model.objects.record import ObjectRecord
from dpn_model.proposals.contract import Known, ProposalSource, Proposed
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.object_fields import TOKENS_PER_BOX, num_shown
from dpn_platform.data.proposing.tally import Tally
from dpn_platform.data.published.schema import MORE_IMAGES, OBJECTS, SHARD_SCHEMA, with_optional

#: pictures that are decoded and handed over together
AT_ONCE = 16
#: what is stored of a box and of its score; no detector knows them better
_PIXEL_DIGITS, _SCORE_DIGITS = 2, 4
_COST = "expected_cost"
_FACTS = ["row_id", "id", "conversations", "has_image", "width", "height", _COST, OBJECTS.name]


@dataclass(frozen=True)
class Asked:
    """A source, and what it is told of rows.

    Attributes:
        source: gives the boxes.
        sees: whether it looks at pixels; pictures are not decoded for others.
        images: paths of pictures by record id, for a file that names pictures.
    """

    source: ProposalSource
    sees: bool
    images: Mapping[str, str]


def with_proposals(table: pa.Table, asked: Asked) -> tuple[pa.Table, Tally]:
    """A shard's rows with proposals beside their boxes; everything else is as it was, but for the cost of more boxes.

    Rows without a picture stay as they are, rows with several too.

    Raises:
        DpnError: a picture cannot be read, or the source refuses.
    """
    whole = with_optional(table)
    rows = whole.select(_FACTS).to_pylist()
    is_alone = [bool(flag) for flag in whole.column(MORE_IMAGES.name).is_null().to_pylist()]
    tally = Tally(passed_over=sum(row["has_image"] and not alone for row, alone in zip(rows, is_alone, strict=True)))
    places = [place for place, row in enumerate(rows) if row["has_image"] and is_alone[place]]
    # Neighbours of one size share a forward pass.
    places.sort(key=lambda place: (rows[place]["width"], rows[place]["height"]))
    for chosen in _chunks(places):
        records = [_record(rows[place]) for place in chosen]
        images = [_opened(rows[place], whole.column("image")[place], asked.sees) for place in chosen]
        for place, record, proposed in zip(chosen, records, _ask(asked, rows, chosen, images, records), strict=True):
            after = replace(record, proposed=_stored(proposed))
            before = num_shown(record) if rows[place][OBJECTS.name] is not None else 0
            rows[place][_COST] += TOKENS_PER_BOX * (num_shown(after) - before)
            rows[place][OBJECTS.name] = after.to_json()
            tally.add(after.proposed[0] if after.proposed else box_array([]), true_boxes(record))
    return _replaced(table, rows), tally


def true_boxes(record: ObjectRecord) -> FloatArray | None:
    """float64[M, 4], what is in the picture, without crowds; None where a record does not say it."""
    if record.truth is not None:
        return record.truth.boxes[~np.array(record.truth.crowd, dtype=bool)]
    return record.boxes if record.scores is None and len(record.boxes) else None


def _ask(
    asked: Asked,
    rows: Sequence[Mapping[str, Any]],
    chosen: Sequence[int],
    images: Sequence[Image.Image],
    records: Sequence[ObjectRecord],
) -> list[Proposed]:
    known = [
        Known(rows[place]["id"], asked.images.get(rows[place]["id"]), true_boxes(record))
        for place, record in zip(chosen, records, strict=True)
    ]
    questions = [_question(rows[place]["conversations"]) for place in chosen]
    try:
        return asked.source.propose(images, questions, known)
    except ValueError as error:
        raise DpnError(str(error)) from error


def _record(row: Mapping[str, Any]) -> ObjectRecord:
    return ObjectRecord(box_array([])) if row[OBJECTS.name] is None else ObjectRecord.of_json(row[OBJECTS.name])


def _question(conversations: str) -> str:
    """All that is asked of the picture."""
    return "\n".join(turn["value"] for turn in json.loads(conversations)[::2])


def _opened(row: Mapping[str, Any], data: pa.BinaryScalar, sees: bool) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data.as_buffer()))
        return image.convert("RGB") if sees else image
    except Exception as error:  # whatever a decoder raises, the row is named
        told = " ".join(str(error).split())[:120]
        raise DpnError(f"row {row['row_id']}: its picture cannot be read ({told}); see `dpn data verify`") from error


def _stored(proposed: Proposed) -> tuple[FloatArray, FloatArray]:
    boxes, scores = np.round(proposed.boxes, _PIXEL_DIGITS), np.round(proposed.scores, _SCORE_DIGITS)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes[has_area], scores[has_area]


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    for first in range(0, len(places), AT_ONCE):
        yield places[first : first + AT_ONCE]


def _replaced(table: pa.Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The shard with the rows' costs and boxes; the pictures are not copied."""
    costs = pa.array([row[_COST] for row in rows], SHARD_SCHEMA.field(_COST).type)
    table = table.set_column(table.column_names.index(_COST), SHARD_SCHEMA.field(_COST), costs)
    objects = pa.array([row[OBJECTS.name] for row in rows], OBJECTS.type)
    if OBJECTS.name in table.column_names:
        return table.set_column(table.column_names.index(OBJECTS.name), OBJECTS, objects)
    return table if objects.null_count == len(objects) else table.append_column(OBJECTS, objects)
