"""Raw sets: lists and lines, read as a stream; folders and files named one by one; what is unreadable is named."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest import sources
from dpn_platform.data.ingest.shards import BuildOptions
from dpn_platform.data.ingest.slicing import read_slices
from dpn_platform.data.ingest.sources import file_source, folder_source, iter_records

RECORDS = [{"id": 'a"],[{', "n": [1, {"x": "}"}]}, 12, None, "text, ] with \\ signs", {"é": "\N{SNOWMAN}"}, []]


def write(path: Path, text: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_lists_come_record_by_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(sources, "_CHUNK_BYTES", chunk)
    uri = write(tmp_path / "x.json", "\ufeff \n" + json.dumps(RECORDS, ensure_ascii=False, indent=indent) + "\n")

    assert [json.loads(raw) for raw in iter_records(uri)] == RECORDS


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_lines_pass_whatever_they_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(sources, "_CHUNK_BYTES", chunk)
    uri = write(tmp_path / "x.jsonl", b'\xef\xbb\xbf{"id": 1}\r\n\n  \n{"half\n\xff\xfe\n[2]')

    assert list(iter_records(uri)) == [b'{"id": 1}', b'{"half', b"\xff\xfe", b"[2]"]


def test_bytes_that_are_no_utf8_stay_as_they_are(tmp_path: Path) -> None:
    uri = write(tmp_path / "x.json", b'[{"id": "\xff\xfe"}, {"id": "good"}]')

    assert list(iter_records(uri)) == [b'{"id": "\xff\xfe"}', b'{"id": "good"}']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": []}', "expected a list of records, it begins with .* JSON lines must be named .jsonl"),
        ('[{"id": 1}, {"id": 2', "after record 1 the list breaks off"),
        ('[{"id": 1}', "the list breaks off"),
        ('[{"id": 1} {"id": 2}]', "in its first record"),
        ("[1, 2,]", "after record 2"),
        ("[1] [2]", "something follows the end"),
        ("", "the list breaks off"),
    ],
)
def test_malformed_lists_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DpnError, match=f"x.json: .*{message}") as refusal:
        list(iter_records(write(tmp_path / "x.json", text)))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_reading_does_not_hold_the_text(tmp_path: Path, suffix: str) -> None:
    record = json.dumps({"id": "x" * 1000})
    many = [record] * 20_000
    text = "\n".join(many) if suffix == "jsonl" else f"[{','.join(many)}]"
    uri = write(tmp_path / f"x.{suffix}", text)
    tracemalloc.start()
    count = sum(1 for _ in iter_records(uri))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert count == 20_000
    assert peak < len(text) / 2  # 20 MB of text; measured 4.3 MB for both kinds, at 80 MB as well


def test_rows_of_a_table_are_records_keyed_by_its_columns(tmp_path: Path) -> None:
    text = '\ufeffimage,question,answer\r\na b.jpg,"Is it red, or\nblue?",""\r\n\r\nc.jpg,"say ""hi""",\xe9t\xe9\r\n'
    uri = write(tmp_path / "x.csv", text)
    semicolons = write(tmp_path / "y.CSV", text.replace(",", ";"))

    wanted = [("a b.jpg", "Is it red, or\nblue?", ""), ("c.jpg", 'say "hi"', "\xe9t\xe9")]
    assert [tuple(json.loads(raw).values()) for raw in iter_records(uri)] == wanted
    assert [json.loads(raw)["answer"] for raw in iter_records(semicolons)] == ["", "\xe9t\xe9"]
    assert list(json.loads(next(iter_records(semicolons)))) == ["image", "question", "answer"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "picture,question,reply\nx.jpg,q,a\n",
            "names picture, question, reply; wanted the columns image, question and",
        ),
        ("question,answer,answer\n", "names question, answer, answer; wanted"),
        ("", "names no column; wanted"),
        ("image,question,answer\nx.jpg,q, or not,a\n", "line 2 has 4 cells for 3 columns"),
        ('image,question,answer\nx.jpg,q,"a" b\n', "line 2 is no CSV"),
    ],
)
def test_a_table_of_another_form_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DpnError, match=f"x.csv: .*{message}") as refusal:
        list(iter_records(write(tmp_path / "x.csv", text)))
    assert "\n" not in str(refusal.value)


def test_folder_takes_every_split(tmp_path: Path) -> None:
    write(tmp_path / "train.json", "[]")
    write(tmp_path / "test.jsonl", "")
    write(tmp_path / "truth/planted.json", "{}")
    write(tmp_path / "._train.json", b"\0\5\x16\7")  # Finder's note beside train.json
    raw = folder_source(str(tmp_path))

    assert raw.splits == ["test", "train"]
    assert raw.image_roots == (f"file://{tmp_path}",)
    assert folder_source(str(tmp_path), ["train"]).splits == ["train"]


def test_files_of_one_split_are_joined_in_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a/x.json", '[{"id": 1}]')
    second = write(tmp_path / "b/y.jsonl", '{"id": 2}\n{"id": 3}\n')
    raw = file_source([first, f"train={second}", f"val={first}"])
    files: dict = {}
    slices = list(read_slices(raw, str(tmp_path / "out"), BuildOptions(raw.image_roots), 100, files))

    assert raw.image_roots == (f"file://{tmp_path}/a", f"file://{tmp_path}/b")
    assert [(part.split, [row.raw for row in part.rows]) for part in slices] == [
        ("train", [b'{"id": 1}', b'{"id": 2}', b'{"id": 3}']),
        ("val", [b'{"id": 1}']),
    ]
    assert [(file.uri, file.rows) for file in files["train"]] == [(f"file://{first}", 1), (f"file://{second}", 2)]


def test_what_is_not_there_is_refused_before_the_work(tmp_path: Path) -> None:
    file = write(tmp_path / "x.json", "[]")
    with pytest.raises(DpnError, match="no raw data set there"):
        folder_source(str(tmp_path / "none"))
    with pytest.raises(DpnError, match="no val.json there"):
        folder_source(str(tmp_path), ["val"])
    with pytest.raises(DpnError, match="--images .*gone: there is no such folder"):
        file_source([file], [str(tmp_path / "gone")])
    with pytest.raises(DpnError, match="--annotations .*y.json: there is no such file"):
        file_source([str(tmp_path / "y.json")])
    with pytest.raises(DpnError, match="named twice for split train"):
        file_source([file, f"train={file}"])
    write(tmp_path / "x.jsonl", "")
    with pytest.raises(DpnError, match="split x is there twice"):
        folder_source(str(tmp_path))
    with pytest.raises(DpnError, match="expected a non-empty list of records"):
        list(read_slices(file_source([file]), str(tmp_path), BuildOptions(()), 10, {}))
