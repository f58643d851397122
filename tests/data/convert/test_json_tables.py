"""A JSON object of lists comes item by item, whatever the pieces it is read in; what is no such object is one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.convert import json_tables
from dpn_platform.data.convert.json_tables import table_items

TABLES: dict[str, Any] = {
    "info": {"year": 2017, "list": [1, {"images": [9]}]},
    "numbers": [1, -20, 3.25e2, True, None, "a]},{", []],
    "licenses": [{"id": 1}],
    "empty": [],
    "words": [{"name": "é"}],
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_items_come_in_order_whatever_the_pieces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: int, indent: int | None
) -> None:
    data = b"\xef\xbb\xbf" + json.dumps(TABLES, indent=indent, ensure_ascii=False).encode()

    def pieces(_: str) -> Iterator[bytes]:
        return (data[start : start + size] for start in range(0, len(data), size))

    monkeypatch.setattr(json_tables, "read_chunks", pieces)
    found = list(table_items("x.json", ("numbers", "words", "empty")))

    assert found == [*(("numbers", item) for item in TABLES["numbers"]), ("words", {"name": "é"})]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected an object of lists (a, b); found 'the end of the file'"),
        ("[1]", "expected an object of lists (a, b); found '[1]'"),
        ('{"a": [1, 2', "a comma or the end is wanted behind item 1 of 'a'; found 'the end of the file'"),
        ('{"a": [1, {"x": 2]}', "item 1 of 'a' breaks off, is malformed or beyond 64 MiB"),
        ('{"a": [1 2]}', "a comma or the end is wanted behind item 0 of 'a'; found '2]}'"),
        ('{"a" [1]}', "a colon is wanted behind 'a'; found '[1]}'"),
        ('{"a": [1] "b": []}', "a comma or the end is wanted behind 'a'"),
        ('{"b": {"x": 1}}', "'b' is dict; wanted a list"),
        ("{1: []}", "a name in quotes is wanted, found 1"),
    ],
)
def test_what_is_no_object_of_lists_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DpnError) as refusal:
        list(table_items(str(tmp_path / "x.json"), ("a", "b")))
    assert told in str(refusal.value)
    assert "x.json" in str(refusal.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DpnError, match="none.json: nothing is there"):
        list(table_items(str(tmp_path / "none.json"), ("a",)))
