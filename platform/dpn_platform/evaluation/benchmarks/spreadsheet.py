"""One sheet as the bytes of an .xlsx or .tsv file: what MMBench's server reads. No spreadsheet library is needed."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
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
