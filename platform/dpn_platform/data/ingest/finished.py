"""Slices that an earlier, interrupted ingest has finished are not built again.

Beside the shards lies one small result per slice, `ingest/<split>-<index>-<digest>.json`, written when its
shard is in place. The digest covers the slice's records and everything that decides what becomes of them,
so a changed source finds no old result. Image files are not read again, save those that were refused: once
the missing ones are there, the slice is built anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import Slice, build_shard, check_rows
from dpn_platform.data.published.manifest import Shard
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.storage import exists, join_uri, read_json, write_json

FINISHED_FOLDER = "ingest"
#: goes up when the same records would be checked or repaired otherwise: older results are not taken over
BUILDER_VERSION = 4


def finish_slice(part: Slice, *, fresh: bool = False) -> dict[str, Any]:
    """The slice's result (see `build_shard`) and whether it was `reused` from an earlier run.

    Args:
        part: the slice.
        fresh: build it in any case.

    Raises:
        DpnError: as `build_shard`.
    """
    uri = join_uri(part.target_uri, FINISHED_FOLDER, f"{part.split}-{part.index:05d}-{slice_digest(part)}.json")
    try:
        recorded = None if fresh else read_json(uri)
    except DpnError:
        recorded = None  # none there, or half a file, as a power failure leaves it: the slice is built again
    if isinstance(recorded, dict) and _still_holds(part, recorded):
        return {**recorded, "reused": True}
    result = build_shard(part)
    write_json(uri, result)
    return {**result, "reused": False}


def slice_digest(part: Slice) -> str:
    """32 hex characters over the records, their places, the options and the versions of schema and builder."""
    options = asdict(part.options)
    head = [BUILDER_VERSION, SCHEMA_VERSION, part.split, part.index, part.first_row_id, options]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for row in part.rows:
        digest.update(f"\n{row.position},{row.is_duplicate:d},{len(row.raw)};".encode())
        digest.update(row.raw)
    return digest.hexdigest()[:32]


def _still_holds(part: Slice, result: dict[str, Any]) -> bool:
    """The shard is there, and the rows that were refused would be refused again."""
    try:
        shard = result["shard"] and Shard(**result["shard"])
        rejected = {line["source_row"]: line for line in result["rejected"]}
    except (KeyError, TypeError, ValueError):
        return False
    if shard and not exists(join_uri(part.target_uri, shard.path)):
        return False
    rows = [row for row in part.rows if row.position in rejected]
    return all(line == rejected[line["source_row"]] for line, _ in check_rows(part, rows))
