"""Files that are almost right: every reader and scorer returns, or refuses in one line; nothing else ever escapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import read_questions
from dpn_platform.benchmarks.registry import MODULES, find_benchmark
from dpn_platform.benchmarks.scoring import question_lines, score_file, submission_of
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import open_uri
from tests.scored_benchmarks import small_llava_sets, small_parquet_sets
from tests.scored_benchmarks.mutations import FUZZ, drawn_bytes, encoded, hypothesis, st
from tests.scored_benchmarks.small_scored_sets import SETS

ANSWERS = ("p.json", "p.jsonl", "p.jsonl.gz", "p.xlsx")


LAYOUTS = [(name, "llava") for name in small_llava_sets.WRITERS]
LAYOUTS += [(name, "parquet") for name in small_parquet_sets.WRITERS]


def written(draw, root, case):
    """Writes the set with a change in one or two of its files."""
    shutil.rmtree(root, ignore_errors=True)
    broken = draw(st.lists(st.sampled_from(sorted(case.documents)), min_size=1, max_size=2))
    for name, document in case.documents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn_bytes(draw, name, document, changes=broken.count(name)))


@pytest.mark.parametrize("case", SETS, ids=[f"{case.benchmark}-{place}" for place, case in enumerate(SETS)])
@FUZZ
@hypothesis.given(data=st.data())
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
    # Those that ask a data set have no files of their own: published shards, which `data` verifies.
    own = {name for name in MODULES if not find_benchmark(name).asks_data_set}
    assert {case.benchmark for case in SETS} == own


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
@FUZZ
@hypothesis.given(data=st.data())
def test_a_question_reader_returns_or_refuses(tmp_path, name, layout, data):
    root, kept, benchmark = tmp_path / "set", tmp_path / "kept", find_benchmark(name)
    if not root.exists():
        writers = small_llava_sets.WRITERS if layout == "llava" else small_parquet_sets.WRITERS
        writers[name](root)
        shutil.copytree(root, kept)
    sources = find_sources(benchmark, Wanted(data=str(root), layout=layout))
    path = Path(open_uri(sources.questions).path)
    path = min(path.rglob("*.parquet")) if path.is_dir() else path
    document = read_back(kept / path.relative_to(root))
    path.write_bytes(drawn_bytes(data.draw, path.name, document, changes=1))
    try:
        questions = read_questions(benchmark, sources, data.draw(st.sampled_from(list(benchmark.variants))))
        json.dumps([[one.id, one.text, one.stored_prompt, one.group, one.family, one.fields] for one in questions])
    except DpnError as error:
        assert_one_line(error, root)


def read_back(path):
    """The rows of a question file as plain values; pictures are bytes in parquet alone."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".tsv":
        header, *lines = (line.split("\t") for line in path.read_text().splitlines())
        return [dict(zip(header, line, strict=True)) for line in lines]
    text = path.read_text()
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
