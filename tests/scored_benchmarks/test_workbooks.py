"""Workbooks: ours are read as they were written, and those of other programs."""

import io
import zipfile

import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.files.spreadsheet import from_xlsx, to_xlsx
from dpn_platform.benchmarks.scoring import submission_of
from dpn_platform.config.errors import DpnError


def mmbench_table(files):
    row = {"question": "Q", "C": None, "D": None, "split": "dev", "category": "c"}
    rows = [{**row, "index": 1, "A": "cat", "B": "dog", "answer": "A"}]
    return files("dev.parquet", [*rows, {**row, "index": 1_000_001, "A": "dog", "B": "cat", "answer": "B"}])


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv"])
def test_the_submission_can_be_scored(files, answers, scored, tmp_path, suffix):
    gold = mmbench_table(files)
    predictions = answers({1: "A\tor\n<cat> & so", 1_000_001: "B"})
    sent = tmp_path / f"send{suffix}"
    sent.write_bytes(submission_of("mmbench", Inputs(predictions, gold), sent.name))
    document, _ = scored("mmbench", str(sent), gold)
    assert document == scored("mmbench", predictions, gold)[0]
    assert read_answers(str(sent))[0].text == "A\tor\n<cat> & so"


def test_a_workbook_comes_back_as_it_was_written():
    sheet = [["index", "a", "b"], [12, None, "x < y\n & z"], [1_000_012, "", " 2 "]]
    assert from_xlsx(to_xlsx(sheet)) == [["index", "a", "b"], ["12", "", "x < y\n & z"], ["1000012", "", " 2 "]]


def test_a_workbook_of_other_programs():
    """Shared texts in several fonts, places of cells, numbers as Excel writes them, a sheet under another name."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts = {
        "xl/workbook.xml": f'<workbook {main}><sheets><sheet name="S" sheetId="7" r:id="rId3" xmlns:r="{office}"/>'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="rId3" Target="/xl/worksheets/s7.xml"/>'
        "</Relationships>",
        "xl/sharedStrings.xml": f"<sst {main}><si><t>index</t></si>"
        "<si><r><t>pre</t></r><r><t>diction</t></r><rPh><t>no</t></rPh></si></sst>",
        "xl/worksheets/s7.xml": f'<worksheet {main}><sheetData><row><c r="A1" t="s"><v>0</v></c>'
        '<c r="C1" t="s"><v>1</v></c></row><row><c r="A2"><v>1.000001E6</v></c><c r="C2"><v>2.5</v></c></row>'
        '<row><c r="C3" t="str"><v>= 1</v></c><c r="D3" t="b"><v>1</v></c></row></sheetData></worksheet>',
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, xml in parts.items():
            archive.writestr(name, xml)
    assert from_xlsx(buffer.getvalue()) == [
        ["index", "", "prediction"],
        ["1000001", "", "2.5"],
        ["", "", "= 1", "1"],
    ]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("xl/workbook.xml", "rId1", "rId9"),
        ("xl/workbook.xml", "<sheet ", "<other "),
        ("xl/workbook.xml", "UTF-8", "UTZ-8"),
        ("xl/worksheets/sheet1.xml", "</row>", "<row>"),
        ("xl/worksheets/sheet1.xml", "<c><v>1<", "<c><v>one<"),
        ("xl/worksheets/sheet1.xml", "<c><v>1<", '<c t="s"><v>1<'),
        ("xl/worksheets/sheet1.xml", "<c><v>1<", '<c r="ZZZZZZZZ1"><v>1<'),
    ],
)
def test_a_damaged_part_is_one_line(tmp_path, name, old, new):
    with zipfile.ZipFile(io.BytesIO(to_xlsx([["index", "prediction"], [1, "A"]]))) as archive:
        parts = {part: archive.read(part).decode() for part in archive.namelist()}
    assert old in parts[name]
    parts[name] = parts[name].replace(old, new)
    path = tmp_path / "p.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        for part, xml in parts.items():
            archive.writestr(part, xml)
    with pytest.raises(DpnError, match="p.xlsx: cannot be read as a workbook"):
        read_answers(str(path))
