"""Rows of parquet files with all but their pictures' bytes, and each row's place, by which a picture is read later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.sources import parquet_parts
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import open_uri, with_retries


@dataclass(frozen=True)
class PlacedRow:
    """A row and where it is. A picture's column holds what is left without its bytes: None if there is no picture."""

    row: Row
    uri: str
    number: int


def read_placed_rows(uri: str, split: str | None, columns: tuple[str, ...] = ()) -> list[PlacedRow]:
    """The rows of a parquet file or folder, in order.

    Args:
        uri: of the file or folder.
        split: of a folder with several splits, the one to read.
        columns: only these; none: all.

    Raises:
        DpnError: nothing there, or no parquet.
    """
    parts = [open_uri(uri).uri] if uri.endswith(".parquet") else parquet_parts(uri, split)
    return [placed for part in parts for placed in _rows_of(part, columns)]


def read_cells(uri: str, column: str, numbers: list[int]) -> dict[int, Any]:
    """Row number -> the cell of a column, bytes included; only the row groups that hold one of them are read.

    Raises:
        DpnError: the file has no such column, or cannot be read.
    """
    location = open_uri(uri)

    def read() -> dict[int, Any]:
        with pq.ParquetFile(location.path, filesystem=location.filesystem, pre_buffer=True) as file:
            if column not in file.schema_arrow.names:
                raise DpnError(f"{uri}: no column '{column}'; found: {', '.join(file.schema_arrow.names)}")
            return dict(_wanted_cells(file, column, set(numbers)))

    return with_retries("read", location, read)


def _wanted_cells(file: pq.ParquetFile, column: str, wanted: set[int]) -> Iterator[tuple[int, Any]]:
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        here = sorted(number for number in wanted if start <= number < end)
        if here:
            cells = file.read_row_group(group, columns=[column]).column(column)
            taken = cells.take(pa.array([number - start for number in here]))
            yield from zip(here, taken.to_pylist(), strict=True)
        start = end


def _rows_of(uri: str, columns: tuple[str, ...]) -> Iterator[PlacedRow]:
    location = open_uri(uri)

    def read() -> tuple[list[Row], list[str]]:
        with pq.ParquetFile(location.path, filesystem=location.filesystem) as file:
            leaves = [file.schema.column(place) for place in range(len(file.schema))]
            chosen = [leaf for leaf in leaves if not columns or leaf.path.partition(".")[0] in columns]
            kept = [leaf.path for leaf in chosen if not _is_bytes(leaf)]
            # A column of plain bytes leaves nothing behind that could tell a missing picture.
            bare = {leaf.path.partition(".")[0] for leaf in chosen} - {path.partition(".")[0] for path in kept}
            return file.read(columns=kept).to_pylist(), sorted(bare)

    try:
        rows, bare = with_retries("read", location, read)
    except (pa.ArrowException, ValueError) as error:
        raise DpnError(f"{uri}: cannot be read as parquet: {' '.join(str(error).split())[:200]}") from error
    for number, row in enumerate(rows):
        yield PlacedRow({**row, **dict.fromkeys(bare, True)}, uri, number)


def _is_bytes(leaf: Any) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
