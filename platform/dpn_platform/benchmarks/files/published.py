"""Rows of a published data set as a benchmark reads them: the manifest names the shards, pictures stay in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

from dpn_model.objects.record import ObjectRecord, Objects
from dpn_model.objects.views import asked_view
from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.parquet_rows import PlacedRow, read_cells, read_placed_rows
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import join_uri, read_json

#: LLaVA's placeholder for a picture
IMAGE_TAG = "<image>"
_COLUMNS = ("row_id", "id", "source", "difficulty", "conversations", "has_image", "width", "height", "objects")


def published_rows(uri: str, split: str) -> Iterator[PlacedRow]:
    """The rows of a split in their order, shard by shard.

    Args:
        uri: the data set's folder, or its manifest.
        split: which one.

    Raises:
        DpnError: no manifest there, or none with such a split.
    """
    manifest = uri if uri.endswith(".json") else join_uri(uri, "manifest.json")
    document = read_json(manifest)
    try:
        shards = [shard["path"] for shard in document["splits"][split]["shards"]]
    except (KeyError, TypeError):
        raise DpnError(f"{manifest}: not the manifest of a data set with a split '{split}'") from None
    root = manifest.rpartition("/")[0].removesuffix("/manifests")
    for path in shards:
        yield from read_placed_rows(join_uri(root, path), None, _COLUMNS)


def first_turn(row: Row) -> tuple[str, str]:
    """Question, with its tags, and answer of a row's conversation."""
    ask, reply = json.loads(row["conversations"])[:2]
    return ask["value"], reply["value"]


def num_pictures(row: Row) -> int:
    """One per tag of the conversation; a picture without a tag is shown too."""
    if not row["has_image"]:
        return 0
    turns = json.loads(row["conversations"])
    return max(1, sum(str(turn["value"]).count(IMAGE_TAG) for turn in turns[::2]))


def shown_objects(row: Row, *, given: bool = False) -> Objects | None:
    """The boxes that a row's question is asked with; None where it has none. `given` as `objects.views.asked_view`."""
    if row.get("objects") is None:
        return None
    record = ObjectRecord.of_json(row["objects"])
    return asked_view(record, first_turn(row)[0], (row["width"], row["height"]), given=given)


def boxes_digest(boxes: Iterable[Sequence[float]]) -> str:
    """Tells which boxes the numbers of an answer name: answers about other boxes are no answers about these."""
    return hashlib.sha256(json.dumps([list(map(float, box)) for box in boxes]).encode()).hexdigest()[:16]


def picture_digests(rows: Sequence[PlacedRow]) -> list[str]:
    """Tells which rows have the same picture, as an evaluation's outcomes do; reads the pictures, shard by shard."""
    numbers: dict[str, list[int]] = {}
    for placed in rows:
        numbers.setdefault(placed.uri, []).append(placed.number)
    found = {
        (uri, number): hashlib.sha256(data or b"").hexdigest()[:16]
        for uri, of_shard in numbers.items()
        for number, data in read_cells(uri, "image", of_shard).items()
    }
    return [found[placed.uri, placed.number] for placed in rows]


def shown_boxes(row: Row, *, given: bool = False) -> tuple[tuple[float, ...], ...] | None:
    """The same as `contract.Prompt` takes them."""
    shown = shown_objects(row, given=given)
    return None if shown is None else tuple(map(tuple, shown.boxes.tolist()))
