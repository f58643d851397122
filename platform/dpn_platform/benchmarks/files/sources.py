"""Reads a benchmark's files (JSON, JSON lines, tables, parquet; gzip or not; s3:// or file://): rows, or a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.file_content import data_files, read_text, suffix_of
from dpn_platform.benchmarks.files.json_text import parse_json
from dpn_platform.benchmarks.files.recognition import owner_of_rows
from dpn_platform.benchmarks.files.tables import TABLES, XLSX, read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, open_uri


def is_folder(uri: str) -> bool:
    """Whether something is there that is not a file; on S3, whether objects lie below."""
    location = open_uri(uri)
    return exists(uri) and not location.filesystem.get_file_info(location.path).is_file


def read_document(uri: str, split: str | None = None) -> Any:
    """A JSON file's content; for anything made of rows, the list of rows.

    Args:
        uri: a file, or a folder of parquet files.
        split: of a folder with parquet files of several splits (`validation-00000-of-00001.parquet`), the one to read.

    Raises:
        DpnError: nothing is there, or it cannot be read as what its name says.
    """
    suffix = suffix_of(uri)
    if suffix == ".parquet":
        return _read_parquet(uri)
    if suffix in (*TABLES, XLSX):
        return read_table(uri)
    if suffix not in (".json", ".jsonl", ".txt") and is_folder(uri):
        return _read_parquet_folder(uri, split)
    text = read_text(uri)
    return _parse_lines(uri, text) if suffix == ".jsonl" or not text.strip() else _parse_json(uri, text)


def read_rows(uri: str, *keys: str, split: str | None = None) -> list[Row]:
    """The rows of a file; `keys` name where a JSON document may hold them (`data`, `annotations`, ...).

    Raises:
        DpnError: as `read_document`, or there are no rows.
    """
    document = read_document(uri, split)
    if isinstance(document, Mapping):
        document = next((document[key] for key in keys if isinstance(document.get(key), list)), document)
    if isinstance(document, Mapping):
        wanted = f" (looked for a list under {', '.join(keys)})" if keys else ""
        raise DpnError(f"{uri}: an object with the keys {_some(document)}; a list of records is needed{wanted}")
    if not isinstance(document, list) or not all(isinstance(row, Mapping) for row in document):
        raise DpnError(f"{uri}: a list of records is needed")
    if not document:
        raise DpnError(f"{uri}: holds no records")
    return document


def rows_by_id(document: Any) -> list[Row]:
    """The records of a dictionary from id to record, each with its key as `id`; nothing of another document."""
    if not isinstance(document, Mapping) or not all(isinstance(row, Mapping) for row in document.values()):
        return []
    return [{**row, "id": key} for key, row in document.items()]


def need_columns(rows: list[Row], uri: str, title: str, *columns: str) -> None:
    """Refuses rows that lack a column.

    Raises:
        DpnError: names the first incomplete row, what it lacks, and what the file looks like.
    """
    for place, row in enumerate(rows, start=1):
        absent = [column for column in columns if column not in row]
        if absent:
            other = owner_of_rows(rows)
            hint = f"; it looks like {other}" if other and other != title else ""
            raise DpnError(
                f"{uri}: record {place} has no {' and no '.join(repr(column) for column in absent)}, so it is not "
                f"{title}'s annotation file (found: {_some(row)}){hint}"
            )


def _parse_lines(uri: str, text: str) -> list[Any]:
    # Not splitlines(): JSON strings may hold U+2028 and its like, which are no ends of line.
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(parse_json(line))
            except ValueError as error:
                raise DpnError(f"{uri}, line {number}: not valid JSON ({error})") from error
    return rows


def _parse_json(uri: str, text: str) -> Any:
    """One document; or, as in POPE's label files, one per line under the name .json."""
    try:
        return parse_json(text)
    except ValueError as error:
        first = text.lstrip().partition("\n")[0]
        try:
            parse_json(first)
        except ValueError:
            raise DpnError(f"{uri}: not valid JSON ({error})") from error
        return _parse_lines(uri, text)


def parquet_parts(uri: str, split: str | None) -> list[str]:
    """The parquet files of a folder: those of the split where names say so (`validation-00000-of-00001.parquet`).

    Raises:
        DpnError: there are none.
    """
    parts = data_files(uri, ".parquet")
    of_split = [part for part in parts if part.rpartition("/")[2].startswith(f"{split}-")]
    if not parts:
        raise DpnError(f"{uri}: a folder without parquet files")
    return of_split or parts


def _read_parquet_folder(uri: str, split: str | None) -> list[Row]:
    return [row for part in parquet_parts(uri, split) for row in _read_parquet(part)]


def _read_parquet(uri: str) -> list[Row]:
    location = open_uri(uri)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            file = pq.ParquetFile(source)
            columns = [field.name for field in file.schema_arrow if not _holds_bytes(field.type)]
            return file.read(columns=columns).to_pylist()
    except FileNotFoundError as error:
        raise DpnError(f"cannot read {uri}: nothing is there") from error
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DpnError(f"{uri}: cannot be read as parquet: {' '.join(str(error).split())[:200]}") from error


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds pictures, which scoring never needs: bytes, structs with bytes, lists of those."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return True
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _holds_bytes(kind.value_type)


def _some(mapping: Mapping[str, Any], limit: int = 8) -> str:
    names = [str(name) for name in list(mapping)[:limit]]
    return ", ".join(names) + (", ..." if len(mapping) > limit else "")
