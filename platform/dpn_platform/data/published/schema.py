"""What a shard holds: the Arrow schema, how a shard becomes Parquet bytes, and the digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

#: part of every fingerprint: raise it when the columns or their meaning change
SCHEMA_VERSION = 2

SHARD_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),  # unique within the split; the currency of resume
        pa.field("source_row", pa.int64(), nullable=False),  # position in the source's list
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # question family, or the image's top folder
        pa.field("difficulty", pa.string()),
        pa.field("conversations", pa.string(), nullable=False),  # JSON list of {"from", "value"}
        pa.field("num_turns", pa.int32(), nullable=False),  # question/answer pairs
        pa.field("text_length", pa.int32(), nullable=False),  # characters of all turns
        pa.field("prompt_tokens", pa.int32(), nullable=False),  # not supervised, images not counted
        pa.field("answer_tokens", pa.int32(), nullable=False),  # supervised
        pa.field("expected_cost", pa.int64(), nullable=False),  # tokens a dense decoder sees, visual ones included
        pa.field("repairs", pa.string()),  # kinds of `policy.KINDS` that were repaired, joined by commas
        pa.field("has_image", pa.bool_(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("image", pa.binary()),  # the encoded file, as it was unless repaired; null for text-only rows
    ]
)
#: the pictures behind the first, of rows that have several; a column of those shards alone that hold such a row
MORE_IMAGES = pa.field("more_images", pa.list_(pa.binary()))
#: the boxes of a picture, `ObjectRecord` as JSON; a column of those shards alone that hold a row with boxes
OBJECTS = pa.field("objects", pa.string())
#: in the order in which a shard has those that it has
OPTIONAL = (MORE_IMAGES, OBJECTS)

_ROW_GROUP_ROWS = 250
_SCALARS = [name for name in SHARD_SCHEMA.names if name != "image"]


def shard_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows (all columns of the schema, and those of `OPTIONAL` where a row has some) as one table."""
    found = [field for field in OPTIONAL if any(row.get(field.name) for row in rows)]
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema([*SHARD_SCHEMA, *found]))


def is_shard_schema(schema: pa.Schema) -> bool:
    """Whether these are the columns of a shard."""
    found = [field for field in OPTIONAL if field.name in schema.names]
    return bool(schema.equals(pa.schema([*SHARD_SCHEMA, *found])))


def with_optional(table: pa.Table) -> pa.Table:
    """The table with all columns of `OPTIONAL`: shards with and without them are read into one stream."""
    for field in OPTIONAL:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    last = [field.name for field in OPTIONAL]
    return table.select([*(name for name in table.column_names if name not in last), *last])


def row_images(row: Mapping[str, Any]) -> list[bytes]:
    """The encoded pictures of a row, in the order of its placeholders."""
    return [] if row["image"] is None else [row["image"], *(row.get(MORE_IMAGES.name) or ())]


def shard_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; images are stored as they are (JPEG does not compress further)."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=_ROW_GROUP_ROWS,
        compression={name: "NONE" if name == "image" else "ZSTD" for name in (*SHARD_SCHEMA.names, OBJECTS.name)},
        use_dictionary=["split", "source", "difficulty"],
        write_statistics=["row_id", "source_row"],
    )
    return bytes(sink.getvalue())


def content_digest(table: pa.Table) -> str:
    """sha256 (hex) over the rows' values in order; does not depend on how Parquet encodes them."""
    digest = hashlib.sha256()
    scalars = table.select(_SCALARS).to_pylist()
    for row, image in zip(scalars, table.column("image"), strict=True):
        head = json.dumps(row, sort_keys=True, ensure_ascii=False).encode()
        body = image.as_buffer() if image.is_valid else b""
        digest.update(f"{len(head)},{len(body)};".encode())
        digest.update(head)
        digest.update(body)
    for pictures in table.column(MORE_IMAGES.name).to_pylist() if MORE_IMAGES.name in table.column_names else ():
        for number, picture in enumerate(pictures or (b"",)):
            digest.update(f"{number},{len(picture)};".encode())
            digest.update(picture)
    for text in table.column(OBJECTS.name).to_pylist() if OBJECTS.name in table.column_names else ():
        boxes = (text or "").encode()
        digest.update(f"{OBJECTS.name},{len(boxes)};".encode())
        digest.update(boxes)
    return digest.hexdigest()
