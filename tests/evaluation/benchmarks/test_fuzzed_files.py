"""Files that are almost right: every reader and scorer returns, or refuses in one line; nothing else ever escapes."""

from __future__ import annotations

import copy
import json
import math
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.benchmarks.contract import Inputs
from dpn_platform.evaluation.benchmarks.registry import MODULES
from dpn_platform.evaluation.benchmarks.scoring import question_lines, score_file, submission_of
from tests.evaluation.benchmarks.small_scored_sets import SETS

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

ANSWERS = ("p.json", "p.jsonl")
#: stands for a value that Python's own writer could not nest so deep
DEEP = "@deep@"
DEPTHS = (3, 300, 1000, 100_000)
JUNK = [
    *(None, True, False, 0, 1, -1, 30, 2.0, 0.5, math.nan, math.inf, -math.inf, 10**25, 10**400),
    *("", " ", "A", "abc", "1", "-1", "1.0", "\u00b2", "nan", "yes", "\x00", "\ufeff", "\ud83d", "a\ude00b"),
    *("x" * 5000, "9" * 5000, "[" * 400, "['a', {}]", "-" * 9999 + "1", DEEP),
    *([], {}, [None], [[]], ["A"], [1], {"answer": None}, {"global": []}, {"A": 1}),
]
FUZZ = settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
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
    if name.endswith(".parquet"):
        return parquet(document)
    if name.endswith(".tsv"):
        rows = document if isinstance(document, list) and all(isinstance(row, dict) for row in document) else []
        columns = list(dict.fromkeys(str(column) for row in rows for column in row))
        lines = [[str(row.get(column, "")) for column in columns] for row in rows]
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
        assume(False)  # rows that no parquet file can hold
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


def written(draw, root, case):
    """Writes the set with a change in one or two of its files."""
    shutil.rmtree(root, ignore_errors=True)
    broken = draw(st.lists(st.sampled_from(sorted(case.documents)), min_size=1, max_size=2))
    for name, document in case.documents.items():
        for _ in range(broken.count(name)):
            if not isinstance(document, str):
                document = changed(draw, document)
        depth = draw(st.sampled_from(DEPTHS))
        nested = draw(st.sampled_from(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]))
        data = encoded(name, document, nested, escaped=draw(st.booleans()))
        if name in broken and draw(st.integers(0, 9)) == 0:
            data = damaged(draw, data)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.mark.parametrize("case", SETS, ids=[f"{case.benchmark}-{place}" for place, case in enumerate(SETS)])
@FUZZ
@given(data=st.data())
def test_a_scorer_returns_or_refuses(tmp_path, case, data):
    root = tmp_path / "set"
    written(data.draw, root, case)
    answers = next(str(root / name) for name in ANSWERS if name in case.documents)
    gold, questions = str(root / case.annotations), case.questions and str(root / case.questions)
    variant = data.draw(st.sampled_from(case.variants))
    try:
        document, report = score_file(case.benchmark, answers, gold, questions, variant)
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        assert [json.loads(line)["score"] for line in question_lines(report).decode().split("\n")[:-1]]
    except DpnError as error:
        assert_one_line(error, root)
    for suffix in case.submits:
        try:
            submission_of(case.benchmark, Inputs(answers, gold, questions, variant), f"out{suffix}")
        except DpnError as error:
            assert_one_line(error, root)


def assert_one_line(error, root):
    """What `dpn` prints: short, and in a terminal's encoding."""
    line = " ".join(str(error).split())
    assert 0 < len(line.replace(str(root), "")) < 20_000
    line.encode()


@pytest.mark.parametrize("case", SETS, ids=[f"{case.benchmark}-{place}" for place, case in enumerate(SETS)])
def test_the_sets_are_valid_as_they_are(tmp_path, case):
    for name, document in case.documents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(name, document))
    answers = next(str(tmp_path / name) for name in ANSWERS if name in case.documents)
    questions = case.questions and str(tmp_path / case.questions)
    for variant in case.variants:
        document, _ = score_file(case.benchmark, answers, str(tmp_path / case.annotations), questions, variant)
        assert document["n"] > 0


def test_every_benchmark_has_a_set():
    assert {case.benchmark for case in SETS} == set(MODULES)
