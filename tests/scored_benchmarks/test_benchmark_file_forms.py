"""Packed files, what macOS adds, other encodings, ids and lists as programs write them: read, or named in one line."""

import gzip
from pathlib import Path

import pytest

from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.files.sources import read_document
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.small_pieces import yes_lines

CLOSING = " Please answer yes or no."
FINDER = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\xff"


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_gzip_is_read_under_either_name(files, scored, gqa, name):
    text = "question_id,text\n" + "".join(f"{n},Yes\n" for n in range(8))
    plain = Path(files(name, text if name.endswith(".csv") else yes_lines(range(8))))
    packed = gzip.compress(plain.read_bytes())
    for path in (plain.with_name(f"{name}.gz"), plain):
        path.write_bytes(packed)
        assert scored("gqa", str(path), gqa)[0]["headline"]["value"] == 100
    plain.write_bytes(packed[:-12])
    with pytest.raises(DpnError, match="the gzip archive is damaged"):
        read_answers(str(plain))
    gold = Path(f"{gqa}.gz")
    gold.write_bytes(gzip.compress(Path(gqa).read_bytes()))
    assert scored("gqa", files("again.jsonl", yes_lines(range(8))), str(gold))[0]["n"] == 8


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


def mme_release(files, tmp_path):
    for place in ("release/count/1.txt", "release/artwork/questions_answers_YN/1.txt"):
        files(place, f"Is it a?{CLOSING}\tYes\nIs it b?{CLOSING}\tNo\n")
    return str(tmp_path / "release")


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
    with pytest.raises(DpnError, match=r"gold\.tsv, record 1 .*: 'answers' is 'cup'; a list of texts"):
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
