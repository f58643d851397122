"""Is a published data set what its manifest says? Every shard is read: bytes, rows, ids, content, images."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from dpn_model.objects.record import ObjectRecord
from dpn_platform.config.errors import DpnError
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of
from dpn_platform.data.published.schema import MORE_IMAGES, OBJECTS, content_digest, is_shard_schema
from dpn_platform.storage import join_uri, read_bytes

DECODE_THREADS = 4
_SUMS = ("prompt_tokens", "answer_tokens", "expected_cost")


@dataclass
class VerifyReport:
    """What was read and every difference found; an empty `problems` means the data set is sound."""

    shards: int = 0
    rows: int = 0
    bytes: int = 0
    images_decoded: int = 0
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
    objects: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    images_decoded: int = 0


def verify(
    manifest: Manifest, on_progress: Callable[[int, int], None] | None = None, *, decode: bool = False
) -> VerifyReport:
    """Reads all shards of a published data set and compares them with its manifest.

    Args:
        manifest: as loaded from where the data set lies.
        on_progress: called with (shards done, shards in all).
        decode: decode every image, too (about 2 ms each).
    """
    report = VerifyReport()
    total = sum(len(split.shards) for split in manifest.splits.values())
    for name, split in manifest.splits.items():
        found, broken = _Found(), len(report.problems)
        for shard in split.shards:
            report.problems += _check_shard(manifest, name, shard, found, decode)
            report.shards += 1
            report.bytes += shard.bytes
            if on_progress:
                on_progress(report.shards, total)
        report.rows += found.rows
        report.images_decoded += found.images_decoded
        if len(report.problems) == broken:
            report.problems += _check_counts(name, split, found)
    if fingerprint_of(manifest.splits) != manifest.fingerprint:
        report.problems.append(f"the fingerprint {manifest.fingerprint} does not follow from the manifest's shards")
    report.problems += _check_quarantine(manifest.root, manifest.quarantine)
    return report


def _check_shard(manifest: Manifest, split: str, shard: Shard, found: _Found, decode: bool) -> Iterator[str]:
    try:
        data = read_bytes(manifest.shard_uri(shard))
    except DpnError as error:
        yield str(error)
        return
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        yield f"{shard.path}: its {len(data)} bytes are not those that were published (sha256 differs)"
        return
    table = pq.read_table(pa.BufferReader(data))
    if not is_shard_schema(table.schema):
        yield f"{shard.path}: its columns are not those of the schema"
        return
    first = shard.first_row_id
    if table.column("row_id").to_pylist() != list(range(first, first + shard.rows)):
        yield f"{shard.path}: row ids are not {first} ... {first + shard.rows - 1}"
    if table.column("split").unique().to_pylist() != [split]:
        yield f"{shard.path}: holds rows of another split than {split}"
    if content_digest(table) != shard.content_sha256:
        yield f"{shard.path}: its rows differ from the manifest's content digest"
    yield from _check_objects(shard, table, found)
    if decode:
        yield from _check_images(shard, table, found)
    found.rows += table.num_rows
    found.images += sum(table.column("has_image").to_pylist())
    found.sources.update(table.column("source").to_pylist())
    for kinds in table.column("repairs").drop_null().to_pylist():
        found.repairs.update(set(kinds.split(",")))
    for name in _SUMS:
        found.sums[name] += pc.sum(table.column(name)).as_py() or 0


def _check_images(shard: Shard, table: pa.Table, found: _Found) -> Iterator[str]:
    """One decoded image per thread is in memory at a time; the encoded ones are not copied."""
    rows = table.select(["row_id", "width", "height", "image"]).filter(table.column("has_image"))
    ids, widths, heights = (rows.column(name).to_pylist() for name in ("row_id", "width", "height"))
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        sizes = pool.map(_decoded_size, rows.column("image"))
        for row_id, width, height, size in zip(ids, widths, heights, sizes, strict=True):
            found.images_decoded += 1
            if size != (width, height):
                seen = size if isinstance(size, str) else f"{size[0]}x{size[1]} pixels"
                yield f"{shard.path}: the image of row {row_id} is not {width}x{height}: {seen}"
    more = table.select(["row_id", MORE_IMAGES.name]).to_pylist() if MORE_IMAGES.name in table.column_names else []
    for row in more:
        for number, picture in enumerate(row[MORE_IMAGES.name] or (), start=2):
            found.images_decoded += 1
            if isinstance(size := _decoded_size(pa.scalar(picture, pa.binary())), str):
                yield f"{shard.path}: image {number} of row {row['row_id']}: {size}"


def _check_objects(shard: Shard, table: pa.Table, found: _Found) -> Iterator[str]:
    if OBJECTS.name not in table.column_names:
        return
    rows = table.select(["row_id", "width", "height", OBJECTS.name])
    for row in rows.filter(rows.column(OBJECTS.name).is_valid()).to_pylist():
        found.objects += 1
        try:
            ObjectRecord.of_fields(json.loads(row[OBJECTS.name]), (row["width"], row["height"]))
        except ValueError as error:
            yield f"{shard.path}: the boxes of row {row['row_id']}: {error}"


def _decoded_size(value: pa.BinaryScalar) -> tuple[int, int] | str:
    """(width, height) of the image, or why it does not decode."""
    buffer = value.as_buffer()
    if buffer is None:
        return "there is none"
    try:
        with Image.open(io.BytesIO(memoryview(buffer))) as image:
            image.load()
            return image.size
    except Exception as error:  # whatever a decoder raises, the row is named and the next one is looked at
        return f"{type(error).__name__}, it does not decode"


def _check_counts(name: str, split: Split, found: _Found) -> Iterator[str]:
    for what, said, seen in (
        ("rows", split.rows, found.rows),
        ("images", split.images, found.images),
        ("text-only rows", split.text_only, found.rows - found.images),
        ("rows with boxes", split.objects, found.objects),
        ("rows per source", split.sources, dict(sorted(found.sources.items()))),
        ("repairs", split.repairs, dict(sorted(found.repairs.items()))),
        *((name.replace("_", " "), getattr(split, name), found.sums[name]) for name in _SUMS),
    ):
        if said != seen:
            yield f"split {name}: the manifest says {said} {what}, the shards hold {seen}"


def _check_quarantine(root: str, quarantine: Quarantine) -> Iterator[str]:
    if quarantine.path is None:
        return
    try:
        data = read_bytes(join_uri(root, quarantine.path))
    except DpnError:
        yield f"{quarantine.path}: the quarantine table is missing"
        return
    lines = data.count(b"\n")
    if lines != quarantine.rows:
        yield f"{quarantine.path}: {lines} rows, the manifest says {quarantine.rows} were quarantined"
