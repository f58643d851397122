"""Changes that make a valid file almost right, drawn by hypothesis."""

from __future__ import annotations

import copy
import gzip
import json
import math

import hypothesis
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from dpn_platform.benchmarks.files.spreadsheet import to_xlsx

#: stands for a value that Python's own writer could not nest so deep
DEEP = "@deep@"
DEPTHS = (3, 300, 1000, 100_000)
JUNK = [
    *(None, True, False, 0, 1, -1, 30, 2.0, 0.5, math.nan, math.inf, -math.inf, 10**25, 10**400),
    *("", " ", "A", "abc", "1", "-1", "1.0", "\u00b2", "nan", "yes", "\x00", "\ufeff", "\ud83d", "a\ude00b"),
    *("x" * 5000, "9" * 5000, "[" * 400, "['a', {}]", "-" * 9999 + "1", DEEP),
    *([], {}, [None], [[]], ["A"], [1], {"answer": None}, {"global": []}, {"A": 1}),
]
FUZZ = hypothesis.settings(
    derandomize=True,
    deadline=None,
    max_examples=20,
    database=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.filter_too_much,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)


def spots(document, path=()):
    """Every place of a document, the root first."""
    yield path
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield from spots(document[key], (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


def changed(draw, document):
    """The document with one change somewhere in it."""
    document = copy.deepcopy(document)
    path = draw(st.sampled_from(list(spots(document))))
    if not path:
        return draw(st.sampled_from([*JUNK, [document], {"data": document}, {"0": document}]))
    *above, key = path
    parent = at(document, above)
    change = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename", "repeat", "swap"]))
    if change == "replace":
        parent[key] = draw(st.sampled_from(JUNK))
    elif change == "swap":
        parent[key] = copy.deepcopy(at(document, draw(st.sampled_from(list(spots(document))))))
    elif change == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif change == "rename" and isinstance(parent, dict):
        parent[draw(st.sampled_from(["", "id", "text", "answer", "label", "\ud83d", "99"]))] = parent.pop(key)
    else:
        del parent[key]
    return document


def encoded(name, document, nested="[]", *, escaped=True):
    """The document as the bytes of a file of that name."""
    if isinstance(document, str) and name.endswith(".txt"):
        return document.encode("utf-8", "surrogatepass")
    if name.endswith(".gz"):
        return gzip.compress(encoded(name.removesuffix(".gz"), document, nested, escaped=escaped))
    if name.endswith(".parquet"):
        return parquet(document)
    if name.endswith((".tsv", ".xlsx")):
        rows = document if isinstance(document, list) and all(isinstance(row, dict) for row in document) else []
        columns = list(dict.fromkeys(str(column) for row in rows for column in row))
        lines = [[str(row.get(column, "")) for column in columns] for row in rows]
        if name.endswith(".xlsx"):
            return to_xlsx([columns, *lines])
        return "\n".join("\t".join(cells) for cells in [columns, *lines]).encode("utf-8", "surrogatepass")
    lines = document if name.endswith(".jsonl") and isinstance(document, list) else [document]
    text = "\n".join(json.dumps(line, ensure_ascii=escaped) for line in lines)
    return text.replace(f'"{DEEP}"', nested).encode("utf-8", "surrogatepass")


def parquet(rows):
    try:
        table = pa.Table.from_pylist(rows)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
    except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError, KeyError):
        hypothesis.assume(False)  # rows that no parquet file can hold
    return sink.getvalue().to_pybytes()


def damaged(draw, data):
    """Bytes as a broken copy or another program leaves them."""
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    return draw(
        st.sampled_from(
            [
                data[:place],
                data[:place] + b"\xff" + data[place + 1 :],
                data[:place] + b"\x00" + data[place:],
                data.decode("utf-8", "replace").encode("utf-16"),
                b"\xef\xbb\xbf" + data,
                data.replace(b"\n", b"\r\n"),
                data + data,
                b"",
            ]
        )
    )


def drawn_bytes(draw, name, document, changes):
    """The document as a file of that name, with so many changes; one in ten changed files is damaged as well."""
    for _ in range(changes if not isinstance(document, str) else 0):
        document = changed(draw, document)
    depth = draw(st.sampled_from(DEPTHS))
    nested = draw(st.sampled_from(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]))
    data = encoded(name, document, nested, escaped=draw(st.booleans()))
    return damaged(draw, data) if changes and (isinstance(document, str) or draw(st.integers(0, 9)) == 0) else data
