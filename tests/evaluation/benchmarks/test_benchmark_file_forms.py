"""Packed files, workbooks, chunks, result folders, what macOS adds, other encodings: read, or named in one line."""

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.benchmarks.answers import read_answers
from dpn_platform.evaluation.benchmarks.contract import Inputs
from dpn_platform.evaluation.benchmarks.scoring import submission_of
from dpn_platform.evaluation.benchmarks.sources import read_document
from dpn_platform.evaluation.benchmarks.spreadsheet import from_xlsx, to_xlsx

CLOSING = " Please answer yes or no."
FINDER = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\xff"


@pytest.fixture
def gqa(files):
    """Annotations of eight questions, all "yes"."""
    return files("gold.json", {str(n): {"question": "q", "answer": "yes", "imageId": "n"} for n in range(8)})


def lines(numbers):
    return [{"question_id": str(n), "text": "Yes", "answer_id": "a"} for n in numbers]


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_gzip_is_read_under_either_name(files, scored, gqa, name):
    text = "question_id,text\n" + "".join(f"{n},Yes\n" for n in range(8))
    plain = Path(files(name, text if name.endswith(".csv") else lines(range(8))))
    packed = gzip.compress(plain.read_bytes())
    for path in (plain.with_name(f"{name}.gz"), plain):
        path.write_bytes(packed)
        assert scored("gqa", str(path), gqa)[0]["headline"]["value"] == 100
    plain.write_bytes(packed[:-12])
    with pytest.raises(DpnError, match="the gzip archive is damaged"):
        read_answers(str(plain))
    gold = Path(f"{gqa}.gz")
    gold.write_bytes(gzip.compress(Path(gqa).read_bytes()))
    assert scored("gqa", files("again.jsonl", lines(range(8))), str(gold))[0]["n"] == 8


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"question_id": "1", "text": "ja"}'.encode("utf-16"), "is UTF-16 and not UTF-8"),
        ("p.csv", "id,prediction\n1,ü\n".encode("latin-1"), "p.csv: cannot be read as a table.*UTF8"),
        ("p.csv", "id,prädiction\n1,u\n".encode("latin-1"), "p.csv: is not UTF-8 text"),
        ("p.csv", b"id,text,text\n1,a,b\n", "two columns are called 'text'"),
        ("p.csv", b"", "p.csv: cannot be read as a table"),
        ("p.json", b"", "p.json: holds no answers"),
        ("p.json", b"\n \n", "p.json: holds no answers"),
        ("p.jsonl", b"PK\x03\x04xx", "a zip archive or a workbook"),
        ("p.jsonl", b"PAR1xx", "is no text but parquet"),
        ("._p.jsonl", FINDER, "a note that macOS keeps"),
        ("p.xlsx", b"PK\x03\x04xx", "cannot be read as a workbook"),
        ("p.xlsx", b"id\tprediction", "cannot be read as a workbook"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DpnError, match=message):
        read_answers(str(tmp_path / name))


def test_marks_and_line_ends_of_windows(tmp_path, scored, gqa):
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbfquestion_id,text\r\n" + b"".join(b"%d,yes\r\n" % n for n in range(8)))
    assert scored("gqa", str(path), gqa)[0]["headline"]["value"] == 100
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(b'{"question_id": "%d", "text": "yes"}\r\n' % n for n in range(8)))
    assert scored("gqa", str(path), gqa)[0]["headline"]["value"] == 100


def test_whole_numbers_written_as_floats_are_ids(files, scored, gqa):
    rows = [{"question_id": float(n), "text": "yes"} for n in range(8)]
    assert scored("gqa", files("p.json", rows), gqa)[0]["headline"]["value"] == 100


@pytest.mark.parametrize("ids", [(1827492, 450097), (1827492.0, 450097.0), ("1827492", "450097")])
def test_zeros_that_a_program_dropped_are_named(files, scored, ids):
    gold = {key: {"question": "q", "answer": "yes", "imageId": "n"} for key in ("01827492", "1827492", "00450097")}
    gold = files("gold.json", gold)
    rows = [{"question_id": key, "text": "yes"} for key in (ids[0], *ids)]
    with pytest.raises(DpnError, match=r"numbers here and texts with leading zeros.*'01827492', '00450097'"):
        scored("gqa", files("p.json", rows), gold)
    whole = [{"question_id": key, "text": "yes"} for key in ("01827492", "1827492", "00450097")]
    assert scored("gqa", files("whole.json", whole), gold)[0]["headline"]["value"] == 100


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


def test_chunks_are_read_in_their_order(files, scored, gqa, tmp_path):
    for place in range(8):
        name = files(f"llava-v1.5-7b/8_{place}.jsonl", lines([place]))
    folder = name.rpartition("/")[0]
    (tmp_path / "llava-v1.5-7b/._8_0.jsonl").write_bytes(FINDER)
    document, report = scored("gqa", folder, gqa)
    assert (document["headline"]["value"], document["n"]) == (100, 8)
    assert [question.id for question in report.questions] == [str(n) for n in range(8)]
    files("llava-v1.5-7b/merge.jsonl", lines(range(8)))
    assert scored("gqa", folder, gqa)[0] == document
    files("llava-v1.5-7b/merge.jsonl", lines(range(7)))
    with pytest.raises(DpnError, match=r"merge\.jsonl is not what the chunks hold together"):
        read_answers(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"8_{n}.jsonl" for n in range(7)], r"7 of 8 chunks are there; missing: 8_7\.jsonl"),
        (["2_1.jsonl"], r"1 of 2 chunks are there; missing: 2_0\.jsonl"),
        (["1_0.jsonl", "2_0.jsonl", "2_1.jsonl"], r"2_0\.jsonl and 1_0\.jsonl are not chunks of one run"),
        (["1_0.jsonl", "1_1.jsonl"], r"1_0\.jsonl and 1_1\.jsonl are not chunks"),
        (["1_0.jsonl", "answers.jsonl"], r"1_0\.jsonl and answers\.jsonl are not chunks"),
        (["merge.jsonl"], r"is a folder; an answer file is needed.*found: merge\.jsonl"),
    ],
)
def test_incomplete_or_mixed_chunks_are_named(files, tmp_path, names, message):
    for name in names:
        files(f"run/{name}", lines([1]))
    with pytest.raises(DpnError, match=message):
        read_answers(str(tmp_path / "run"))


def mme_release(files, tmp_path):
    for place in ("release/count/1.txt", "release/artwork/questions_answers_YN/1.txt"):
        files(place, f"Is it a?{CLOSING}\tYes\nIs it b?{CLOSING}\tNo\n")
    return str(tmp_path / "release")


def test_the_results_of_mmes_own_tool(files, scored, tmp_path):
    gold = mme_release(files, tmp_path)
    for subtask, second in {"count": "No", "artwork": "Yes, it is."}.items():
        files(
            f"results/{subtask}.txt",
            f"1.txt\tIs it a?{CLOSING}\tYes\tYes\n1.txt\tIs it b?{CLOSING}\tNo\t{second}\n",
        )
    folder = str(tmp_path / "results")
    files("results/._count.txt", "x")
    scores = scored("mme", folder, gold)[0]["scores"]
    assert (scores["subtasks"]["count"]["score"], scores["subtasks"]["artwork"]["score"]) == (200, 50)
    assert scores["perception"] == 250
    files("results/count.txt", f"1.txt\tIs it a?{CLOSING}\tYes\n")
    with pytest.raises(DpnError, match=r"count\.txt, line 1: image, question, gold and answer.*found 3 of 4"):
        scored("mme", folder, gold)
    with pytest.raises(DpnError, match="is the same file as the annotations"):
        scored("mme", gold, gold)


def test_what_macos_adds_is_no_data(files, answers, scored, tmp_path):
    gold = mme_release(files, tmp_path)
    labels = "".join(f'{{"image": "C.jpg", "text": "Is there {thing}?", "label": "yes"}}\n' for thing in "ab")
    files("coco/coco_pope_random.json", labels)
    files("gqa/testdev-00000-of-00001.parquet", [{"id": "1", "question": "q", "answer": "yes", "imageId": "n"}])
    for name in (
        "release/count/._1.txt",
        "release/__MACOSX/count/2.txt",
        "release/.DS_Store",
        "coco/._coco_pope_random.json",
        "gqa/._testdev-00000-of-00001.parquet",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(FINDER)
    asked = [(f"{task}/1.jpg", text, f"Is it {what}?") for task in ("count", "artwork") for what, text in ("aY", "bN")]
    asked = [(key, {"Y": "Yes", "N": "No"}[text], prompt) for key, text, prompt in asked]
    assert scored("mme", answers(asked), gold)[0]["headline"]["value"] == 400
    pope = answers([(0, "yes", "Is there a?"), (1, "yes", "Is there b?")], "pope.jsonl")
    assert scored("pope", pope, str(tmp_path / "coco"))[0]["headline"]["value"] == 100
    assert scored("gqa", answers({"1": "yes"}, "g.jsonl"), str(tmp_path / "gqa"))[0]["headline"]["value"] == 100


def test_label_files_of_pope_end_in_either_way(files, answers, scored, tmp_path):
    label = {"image": "C.jpg", "text": "Is there a?", "label": "yes"}
    files("coco/coco_pope_random.jsonl", [label])
    predictions = answers([(0, "yes", "Is there a?")])
    assert scored("pope", predictions, str(tmp_path / "coco"))[0]["headline"]["value"] == 100
    files("coco/coco_pope_random.json", [label])
    with pytest.raises(DpnError, match="two label files of one category"):
        scored("pope", predictions, str(tmp_path / "coco"))


@pytest.mark.parametrize("benchmark", ["textvqa", "vqav2", "vizwiz"])
def test_humans_answers_in_a_table_are_a_list(files, answers, scored, benchmark):
    humans = {1: str(["cup"] * 10), 2: '["2", "2", "2", "2", "2", "2", "2", "2", "2", "two"]'}
    table = "question_id\tquestion\tanswers\n" + "".join(f"{key}\tq\t{text}\n" for key, text in humans.items())
    predictions = answers({1: "cup", 2: "2"})
    # csv would take the quotes of the second for its own
    gold = files("gold.tsv", table.replace('"', "'"))
    assert scored(benchmark, predictions, gold)[0]["headline"]["value"] == 100
    gold = files("gold.tsv", "question_id\tquestion\tanswers\n1\tq\tcup\n2\tq\t['a']\n")
    with pytest.raises(DpnError, match=r"gold\.tsv, record 1: 'answers' is the text 'cup' and no list"):
        scored(benchmark, predictions, gold)


def test_text_files_of_mme_in_another_encoding_are_named(files, answers, scored, tmp_path):
    gold = mme_release(files, tmp_path)
    (tmp_path / "release/count/1.txt").write_bytes(f"Is this by Dürer?{CLOSING}\tYes\n".encode("latin-1"))
    with pytest.raises(DpnError, match=r"count/1\.txt: is not UTF-8"):
        scored("mme", answers({"count/1.jpg": "Yes"}), gold)


def test_a_folder_where_a_file_is_expected_is_named(files, answers, scored, tmp_path):
    (tmp_path / "gold.json").mkdir()
    with pytest.raises(DpnError, match=r"gold\.json: it is a folder"):
        scored("gqa", answers({"1": "yes"}), str(tmp_path / "gold.json"))
    with pytest.raises(DpnError, match="a folder without parquet files"):
        read_document(files("empty/x.md", "x").rpartition("/")[0])
