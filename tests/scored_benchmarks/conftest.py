"""Fixtures of the benchmark tests: files in the layouts of the benchmarks, made on the spot."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpn_platform.benchmarks.scoring import question_lines, score_file
from dpn_platform.benchmarks.statistics.paired import run_score
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, read_questions


@pytest.fixture
def files(tmp_path):
    """Writes a file by its suffix and returns its path as text."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(content), path)
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_text(json.dumps(content))
        return str(path)

    return write


@pytest.fixture
def answers(files):
    """An answer file of LLaVA's from {id: text} or [(id, text, prompt)]."""

    def write(texts, name="answers.jsonl"):
        rows = [(key, text, None) for key, text in texts.items()] if isinstance(texts, dict) else texts
        lines = [{"question_id": key, "text": text, "answer_id": "a", "model_id": "m"} for key, text, _ in rows]
        for line, (_, _, prompt) in zip(lines, rows, strict=True):
            if prompt is not None:
                line["prompt"] = prompt
        return files(name, lines)

    return write


@pytest.fixture
def gqa(files):
    """GQA's annotations of eight questions, all "yes"."""
    return files("gold.json", {str(n): {"question": "q", "answer": "yes", "imageId": "n"} for n in range(8)})


@pytest.fixture
def scored(tmp_path):
    """`score_file`; every headline must also follow from the per-question file alone, which comparisons read."""

    def score(benchmark, *arguments, **options):
        document, report = score_file(benchmark, *arguments, **options)
        each = tmp_path / "each.jsonl"
        each.write_bytes(question_lines(report))
        name = document["benchmark"]
        again = run_score(ScoredRun("run", str(each), {name: read_questions(str(each), name)}), name)
        # The two sum the same numbers in another order: 3e-14 apart at most.
        assert again.value == pytest.approx(document["headline"]["value"], abs=1e-9)
        return document, report

    return score
