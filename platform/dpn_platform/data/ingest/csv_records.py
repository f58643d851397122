"""Questions in a CSV file as records: one object per row, keyed by the columns' names."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.record_forms import ANSWER, QUESTION

CSV_SUFFIXES = (".csv", ".tsv")
#: what a spreadsheet may have between its columns
_DELIMITERS = ",;\t"
_WANTED = f"wanted the columns image, {QUESTION} and {ANSWER}, and if need be id, split, family, difficulty"
_ODD_BYTES = "surrogateescape"
_MAX_CELL_CHARACTERS = 2**20


def csv_records(chunks: Iterator[bytes], uri: str) -> Iterator[bytes]:
    """The rows of a CSV file as JSON texts; its first line names the columns.

    Bytes that are not UTF-8 pass through, as in the other files: `validation` refuses the row.

    Raises:
        DpnError: the file lacks a column, names one twice, or is no CSV.
    """
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    lines = _lines(chunks)
    head = next(lines, "").removeprefix("\ufeff")
    delimiter = max(_DELIMITERS, key=head.count)
    columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    if not {QUESTION, ANSWER} <= set(columns) or len(set(columns)) < len(columns):
        raise DpnError(f"{uri}: its first line names {', '.join(columns)[:200] or 'no column'}; {_WANTED}")
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for cells in filter(None, rows):
            if len(cells) != len(columns):
                raise DpnError(
                    f"{uri}: line {rows.line_num + 1} has {len(cells)} cells for {len(columns)} columns; a text that "
                    f'holds {delimiter!r} or a line break must stand in "quotes"'
                )
            yield json.dumps(dict(zip(columns, cells, strict=True)), ensure_ascii=False).encode("utf-8", _ODD_BYTES)
    except csv.Error as error:
        raise DpnError(f"{uri}: line {rows.line_num + 1} is no CSV ({error})") from error


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Lines with their ends; a quoted cell may go on over several."""
    decode = codecs.getincrementaldecoder("utf-8")(_ODD_BYTES).decode
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decode(chunk)).split("\n")
        yield from (f"{line}\n" for line in lines)
    if rest := rest + decode(b"", True):
        yield rest
