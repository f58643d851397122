"""A benchmark in miniature, read as the runner reads it, and answers without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import read_questions
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.evaluation.answering.contract import Answered
from dpn_platform.evaluation.answering.loading import Checkpoint
from dpn_platform.evaluation.runner.lines import answer_line
from dpn_platform.evaluation.runner.outcome import Evaluated
from tests.scored_benchmarks import small_llava_sets, small_parquet_sets

WRITERS = {"llava": small_llava_sets.WRITERS, "parquet": small_parquet_sets.WRITERS}


@pytest.fixture
def small_set(tmp_path: Path) -> Callable[..., Any]:
    """(benchmark, layout) -> the run, its questions and the right answers."""

    def make(name: str, layout: str, variant: str = "reference", **wanted: Any) -> tuple[Evaluated, Any, list[str]]:
        right = WRITERS[layout][name](tmp_path / "set")
        benchmark = find_benchmark(name)
        sources = find_sources(benchmark, Wanted(**{"data": str(tmp_path / "set"), **wanted}))
        checkpoint = Checkpoint("runs/model", "0", "dpn")
        run = Evaluated(benchmark, variant, sources, str(tmp_path / "out"), checkpoint, seed=0)
        return run, read_questions(benchmark, sources, variant), right

    return make


@pytest.fixture
def lines_of() -> Callable[..., Any]:
    """The lines a model with these answers would leave."""

    def make(questions: Any, texts: list[str]) -> list[dict[str, Any]]:
        return [
            answer_line(question, _answered(text, question), "model", {"image_sha": "0" if question.pictures else None})
            for question, text in zip(questions, texts, strict=True)
        ]

    return make


def _answered(text: str, question: Any) -> Answered | None:
    if question.fixed_answer is not None:
        return None
    visual = (64, 16) if question.pictures else (0, 0)
    costs = {"eq8_macs": 1, "eq8_dense": 2, "swiglu_macs": 3, "swiglu_dense": 4}
    return Answered(text, 2, visual[0] + 16, visual, sum(visual) / 2, 1024, "2x2", (2,), True, costs)
