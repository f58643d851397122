"""Rows of a TSV, CSV or XLSX file: texts by column, without the pictures that MMBench's table holds."""

from __future__ import annotations

import csv

import pyarrow as pa

from dpn_platform.benchmarks.contract import Row
from dpn_platform.benchmarks.files.file_content import read_content, suffix_of
from dpn_platform.benchmarks.files.spreadsheet import from_xlsx
from dpn_platform.config.errors import DpnError

_DELIMITERS = {".tsv": "\t", ".csv": ","}
TABLES = tuple(_DELIMITERS)
XLSX = ".xlsx"
_PICTURE = "image"
_BLOCK_BYTES = 1 << 28  # a row must fit in a block; a base64 picture makes rows of megabytes


def read_table(uri: str, *, pictures: bool = False) -> list[Row]:
    """The rows of the file.

    Args:
        uri: of the file.
        pictures: with the `image` column (base64), which scoring leaves out.

    Raises:
        DpnError: nothing is there, or it is no such table.
    """
    data = read_content(uri)
    if suffix_of(uri) == XLSX:
        return _from_sheet(uri, data, pictures)
    from pyarrow import csv as arrow_csv

    delimiter = _DELIMITERS[suffix_of(uri)]
    columns = [name for name in _header(uri, data, delimiter) if pictures or name != _PICTURE]
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(block_size=min(_BLOCK_BYTES, max(len(data), 1))),
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), include_columns=columns, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise DpnError(f"{uri}: cannot be read as a table: {' '.join(str(error).split())[:200]}") from error
    return table.to_pylist()


def _header(uri: str, data: bytes, delimiter: str) -> list[str]:
    try:
        line = data.partition(b"\n")[0].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DpnError(f"{uri}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    return _told_apart(uri, next(csv.reader([line.rstrip("\r")], delimiter=delimiter), []))


def _told_apart(uri: str, names: list[str]) -> list[str]:
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise DpnError(f"{uri}: two columns are called '{repeated[0]}'; which is meant cannot be told")
    return names


def _from_sheet(uri: str, data: bytes, pictures: bool) -> list[Row]:
    try:
        names, *body = from_xlsx(data) or [[]]
    except ValueError as error:
        raise DpnError(f"{uri}: cannot be read as a workbook: {error}") from error
    kept = [name for name in _told_apart(uri, names) if name and (pictures or name != _PICTURE)]
    places = {name: names.index(name) for name in kept}
    return [
        {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
        for cells in body
        if any(cells)
    ]
