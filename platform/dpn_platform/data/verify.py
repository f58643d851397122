"""Is a published data set what its manifest says? Every shard is read and compared: bytes, rows, ids, content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from dpn_platform.config.errors import DpnError
from dpn_platform.data.manifest import Manifest, Shard, Split, fingerprint_of
from dpn_platform.data.schema import SHARD_SCHEMA, content_digest
from dpn_platform.storage import exists, join_uri, read_bytes


@dataclass
class VerifyReport:
    """What was read and every difference found; an empty `problems` means the data set is sound."""

    shards: int = 0
    rows: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing differs."""
        return not self.problems


@dataclass
class _Found:
    """What the shards of one split really hold."""

    rows: int = 0
    images: int = 0
    sources: Counter[str] = field(default_factory=Counter)


def verify(manifest: Manifest, on_progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Reads all shards of a published data set and compares them with its manifest.

    Args:
        manifest: as loaded from where the data set lies.
        on_progress: called with (shards done, shards in all).
    """
    report = VerifyReport()
    total = sum(len(split.shards) for split in manifest.splits.values())
    for name, split in manifest.splits.items():
        found, broken = _Found(), len(report.problems)
        for shard in split.shards:
            report.problems += _check_shard(manifest, name, shard, found)
            report.shards += 1
            report.bytes += shard.bytes
            if on_progress:
                on_progress(report.shards, total)
        report.rows += found.rows
        if len(report.problems) == broken:
            report.problems += _check_counts(name, split, found)
    if fingerprint_of(manifest.splits) != manifest.fingerprint:
        report.problems.append(f"the fingerprint {manifest.fingerprint} does not follow from the manifest's shards")
    table = manifest.quarantine.path
    if table and not exists(join_uri(manifest.root, table)):
        report.problems.append(f"{table}: the quarantine table is missing")
    return report


def _check_shard(manifest: Manifest, split: str, shard: Shard, found: _Found) -> Iterator[str]:
    try:
        data = read_bytes(manifest.shard_uri(shard))
    except DpnError as error:
        yield str(error)
        return
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        yield f"{shard.path}: its {len(data)} bytes are not those that were published (sha256 differs)"
        return
    table = pq.read_table(pa.BufferReader(data))
    if not table.schema.equals(SHARD_SCHEMA):
        yield f"{shard.path}: its columns are not those of the schema"
        return
    first = shard.first_row_id
    if table.column("row_id").to_pylist() != list(range(first, first + shard.rows)):
        yield f"{shard.path}: row ids are not {first} ... {first + shard.rows - 1}"
    if table.column("split").unique().to_pylist() != [split]:
        yield f"{shard.path}: holds rows of another split than {split}"
    if content_digest(table) != shard.content_sha256:
        yield f"{shard.path}: its rows differ from the manifest's content digest"
    found.rows += table.num_rows
    found.images += sum(table.column("has_image").to_pylist())
    found.sources.update(table.column("source").to_pylist())


def _check_counts(name: str, split: Split, found: _Found) -> Iterator[str]:
    for what, said, seen in (
        ("rows", split.rows, found.rows),
        ("images", split.images, found.images),
        ("text-only rows", split.text_only, found.rows - found.images),
        ("rows per source", split.sources, dict(sorted(found.sources.items()))),
    ):
        if said != seen:
            yield f"split {name}: the manifest says {said} {what}, the shards hold {seen}"
