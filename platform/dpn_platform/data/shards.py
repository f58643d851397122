"""One slice of the source's list becomes one shard: fetch, validate, write. A pure function of the slice.

The shard is named by its content, so a task that Ray repeats writes the same object again and nothing is
ever overwritten by something else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dpn_platform.data.schema import content_digest, shard_bytes, shard_table
from dpn_platform.data.validation import RejectedError, check_image, check_record
from dpn_platform.storage import MissingObjectError, join_uri, read_bytes, write_bytes

SHARDS_FOLDER = "shards"
FETCH_THREADS = 16
_MAX_RECORD_CHARACTERS = 2000


@dataclass(frozen=True)
class SourceRow:
    """A record as the source has it.

    Attributes:
        position: in the split's list.
        record: whatever the JSON held.
        is_duplicate: it repeats an earlier record.
    """

    position: int
    record: Any
    is_duplicate: bool = False


@dataclass(frozen=True)
class Slice:
    """The work of one task: some rows of one split, and where to read and write."""

    source_uri: str
    target_uri: str
    split: str
    index: int
    first_row_id: int
    rows: tuple[SourceRow, ...]


def build_shard(part: Slice) -> dict[str, Any]:
    """Writes the slice's good rows as a shard.

    Returns:
        `split`, `index`, `num_rows` (of the source), `shard` (fields of `manifest.Shard`, None when no row
        was good), `sources` (count by source), `images`, and `rejected` (rows for the quarantine table).

    Raises:
        DpnError: the storage could not be reached or refused; a missing picture is not such an error.
    """
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        outcomes = list(pool.map(lambda row: _check(part, row), part.rows))
    rejected = [outcome for outcome in outcomes if "reason" in outcome]
    good = [outcome for outcome in outcomes if "reason" not in outcome]
    for offset, row in enumerate(good):
        row["row_id"] = part.first_row_id + offset
    return {
        "split": part.split,
        "index": part.index,
        "num_rows": len(part.rows),
        "shard": _write(part, good) if good else None,
        "sources": dict(Counter(row["source"] for row in good)),
        "images": sum(row["has_image"] for row in good),
        "rejected": rejected,
    }


def quarantine_lines(rejected: Sequence[dict[str, Any]]) -> bytes:
    """The quarantine table: one JSON object per refused row, in source order."""
    ordered = sorted(rejected, key=lambda row: (row["split"], row["source_row"]))
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in ordered).encode()


def _check(part: Slice, row: SourceRow) -> dict[str, Any]:
    """The finished row without its id, or the line for the quarantine table (it has a `reason`)."""
    try:
        if row.is_duplicate:
            raise RejectedError("duplicate", "same id, picture and conversation as an earlier record")
        checked = check_record(row.record)
        data, size = (None, (None, None)) if checked.image is None else _fetch(part.source_uri, checked.image)
    except RejectedError as refusal:
        return {
            "split": part.split,
            "source_row": row.position,
            "reason": refusal.reason,
            "detail": refusal.detail,
            "record": json.dumps(row.record, sort_keys=True, ensure_ascii=False)[:_MAX_RECORD_CHARACTERS],
        }
    return {
        "source_row": row.position,
        "id": checked.id,
        "split": part.split,
        "source": checked.source,
        "difficulty": checked.difficulty,
        "conversations": checked.conversations,
        "num_turns": checked.num_turns,
        "text_length": checked.text_length,
        "has_image": data is not None,
        "width": size[0],
        "height": size[1],
        "image": data,
    }


def _fetch(source_uri: str, path: str) -> tuple[bytes, tuple[int, int]]:
    try:
        data = read_bytes(join_uri(source_uri, path))
    except MissingObjectError as error:
        raise RejectedError("image_missing", path) from error
    return data, check_image(data)


def _write(part: Slice, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    table = shard_table(rows)
    data = shard_bytes(table)
    content = content_digest(table)
    path = f"{SHARDS_FOLDER}/{part.split}-{part.index:05d}-{content[:16]}.parquet"
    write_bytes(join_uri(part.target_uri, path), data)
    return {
        "path": path,
        "rows": table.num_rows,
        "first_row_id": part.first_row_id,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "content_sha256": content,
    }
