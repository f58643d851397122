"""One sheet as the bytes of an .xlsx or .tsv file, which MMBench's server reads, and back. No library is needed."""

from __future__ import annotations

import csv
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape

Cell = str | int | None
Sheet = Sequence[Sequence[Cell]]

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_WORKBOOK = "xl/workbook.xml"
_SHEET = "worksheets/sheet1.xml"
_SHARED = "xl/sharedStrings.xml"
_MOST_COLUMNS = 16384
# Characters XML cannot hold at all; a model may write them.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# One fixed time stamp: equal answers give equal bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_tsv(sheet: Sheet) -> bytes:
    """Tab-separated, quoted where needed."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(sheet)
    return text.getvalue().encode()


def to_xlsx(sheet: Sheet) -> bytes:
    """A workbook with one sheet of texts and whole numbers (ECMA-376, inline strings)."""
    rows = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in sheet)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/{_WORKBOOK}" ContentType="{_TYPES}.sheet.main+xml"/>'
        f'<Override PartName="/xl/{_SHEET}" ContentType="{_TYPES}.worksheet+xml"/></Types>',
        "_rels/.rels": _relation("officeDocument", _WORKBOOK),
        _WORKBOOK: f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>'
        '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation("worksheet", _SHEET),
        f"xl/{_SHEET}": f'<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData></worksheet>',
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, xml in parts.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _XML + xml)
    return buffer.getvalue()


def from_xlsx(data: bytes) -> list[list[str]]:
    """The first sheet of a workbook, row by row: texts and numbers as they are typed, "" where a cell is empty.

    Raises:
        ValueError: not a workbook; says what is wrong.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sheet = ElementTree.fromstring(archive.read(_first_sheet(archive)))
            shared = _shared_texts(archive)
        return [_values(row, shared) for row in sheet.iter(f"{{{_MAIN}}}row")]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"the archive is damaged ({error})") from error
    except (LookupError, ElementTree.ParseError) as error:
        raise ValueError(f"it lacks a part or has a damaged one ({error})") from error


def _first_sheet(archive: zipfile.ZipFile) -> str:
    """The name of the first sheet's part."""
    book = ElementTree.fromstring(archive.read(_WORKBOOK))
    sheet = next(book.iter(f"{{{_MAIN}}}sheet"), None)
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    targets = {relation.get("Id"): relation.get("Target", "") for relation in relations}
    if sheet is None:
        raise ValueError("it has no sheet")
    return posixpath.normpath(posixpath.join("/xl", targets[sheet.get(f"{{{_RELATIONS}}}id")])).lstrip("/")


def _shared_texts(archive: zipfile.ZipFile) -> list[str]:
    """The table of texts that Excel and others keep beside the sheets; ours has none."""
    if _SHARED not in archive.namelist():
        return []
    return [_text(item) for item in ElementTree.fromstring(archive.read(_SHARED)).iter(f"{{{_MAIN}}}si")]


def _text(item: ElementTree.Element) -> str:
    """A text, plain or in runs of several fonts; how it is pronounced (rPh) is no part of it."""
    runs = item.findall(f"{{{_MAIN}}}t") + item.findall(f"{{{_MAIN}}}r/{{{_MAIN}}}t")
    return "".join(run.text or "" for run in runs)


def _values(row: ElementTree.Element, shared: Sequence[str]) -> list[str]:
    """The cells of a row by place; a file may leave out empty ones and say the place of the others ("C7")."""
    values: dict[int, str] = {}
    place = -1
    for cell in row.iter(f"{{{_MAIN}}}c"):
        letters = re.match("[A-Z]+", cell.get("r", ""))
        place = _column(letters.group()) if letters else place + 1
        values[place] = _value(cell, shared)
    return [values.get(number, "") for number in range(place + 1)]


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    if number > _MOST_COLUMNS:
        raise ValueError(f"column {letters} is beyond a sheet's last")
    return number - 1


def _value(cell: ElementTree.Element, shared: Sequence[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        item = cell.find(f"{{{_MAIN}}}is")
        return "" if item is None else _text(item)
    value = cell.findtext(f"{{{_MAIN}}}v") or ""
    if kind == "s":
        return shared[int(value)]
    if kind == "n" and value:
        number = float(value)
        return str(int(number)) if number.is_integer() else value
    return value


def _relation(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATIONS}/{kind}" Target="{target}"/></Relationships>'
    )


def _cell(value: Cell) -> str:
    if value is None:
        return "<c/>"
    if isinstance(value, int):
        return f"<c><v>{value}</v></c>"
    text = escape(_FORBIDDEN.sub("", value))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
