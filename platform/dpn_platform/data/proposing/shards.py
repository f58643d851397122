"""A published shard in, a shard with proposals out; what a killed job has finished is not done again.

Beside the shards lies one small result for each, `proposals/<split>-<index>-<digest>.json`, written when the new shard
is in place. The digest covers the old shard's content and everything that decides which boxes are proposed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpn_platform.config.errors import DpnError
from dpn_platform.data.proposing.rows import Asked, with_proposals
from dpn_platform.data.published.manifest import SHARDS_FOLDER, Shard
from dpn_platform.data.published.schema import OBJECTS, SCHEMA_VERSION, content_digest, shard_bytes
from dpn_platform.storage import exists, join_uri, read_bytes, read_json, write_bytes, write_json

FINISHED_FOLDER = "proposals"
#: goes up when the same source would propose otherwise: older results are not taken over
PROPOSER_VERSION = 1


@dataclass(frozen=True)
class Portion:
    """The work on one shard.

    Attributes:
        source_uri: where the shard lies.
        shard: what its manifest says of it.
        split, index: of it in its set.
        target_uri: folder of the set that the new shard is for.
        decides: what the proposals hang on beside the rows.
    """

    source_uri: str
    shard: Shard
    split: str
    index: int
    target_uri: str
    decides: Mapping[str, Any]

    @property
    def finished_uri(self) -> str:
        """Where its result is kept."""
        head = [
            PROPOSER_VERSION,
            SCHEMA_VERSION,
            self.shard.content_sha256,
            self.shard.first_row_id,
            dict(self.decides),
        ]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()[:32]
        return join_uri(self.target_uri, FINISHED_FOLDER, f"{self.split}-{self.index:05d}-{digest}.json")


def finished(portion: Portion) -> dict[str, Any] | None:
    """What an earlier job made of this shard; None where none did, or its shard is gone."""
    try:
        result = read_json(portion.finished_uri)
        shard = Shard(**result["shard"])
    except (DpnError, KeyError, TypeError, ValueError):
        return None  # none there, or half a file, as a power failure leaves it: it is done again
    return result if exists(join_uri(portion.target_uri, shard.path)) else None


def propose_shard(portion: Portion, asked: Asked) -> dict[str, Any]:
    """Writes the shard with proposals, then its result.

    Returns:
        Plain JSON values: `split`, `index`, `shard` (fields of `manifest.Shard`), `objects` (rows with boxes),
        `expected_cost` (their sum), `tally` (see `Tally`).

    Raises:
        DpnError: the shard is not what its manifest says, a picture cannot be read, the source refuses, or the storage
            failed.
    """
    data = read_bytes(portion.source_uri)
    if hashlib.sha256(data).hexdigest() != portion.shard.sha256:
        raise DpnError(f"{portion.source_uri} is not as it was published (sha256 differs); see `dpn data verify`")
    table, tally = with_proposals(pq.read_table(pa.BufferReader(data)), asked)
    result = {
        "split": portion.split,
        "index": portion.index,
        "shard": _written(portion, table, data).model_dump(),
        "objects": table.num_rows - table.column(OBJECTS.name).null_count if OBJECTS.name in table.column_names else 0,
        "expected_cost": pc.sum(table.column("expected_cost")).as_py() or 0,
        "tally": tally.to_json(),
    }
    write_json(portion.finished_uri, result)
    return result


def _written(portion: Portion, table: pa.Table, before: bytes) -> Shard:
    """Shards are named by content; one in which nothing changed keeps its bytes, whoever writes Parquet here."""
    content = content_digest(table)
    data = before if content == portion.shard.content_sha256 else shard_bytes(table)
    path = f"{SHARDS_FOLDER}/{portion.split}-{portion.index:05d}-{content[:16]}.parquet"
    uri = join_uri(portion.target_uri, path)
    if uri != portion.source_uri:
        write_bytes(uri, data)
    return Shard(
        path=path,
        rows=table.num_rows,
        first_row_id=portion.shard.first_row_id,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content_sha256=content,
    )
