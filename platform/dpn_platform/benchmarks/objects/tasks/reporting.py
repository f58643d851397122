"""The report of a benchmark about objects: its headline is the mean of what its questions score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.contract import Benchmark, Headline, Inputs, QuestionScore, Report
from dpn_platform.benchmarks.objects.estimates import mean_by_picture
from dpn_platform.benchmarks.objects.tasks.answered_rows import AnsweredRow
from dpn_platform.benchmarks.objects.tasks.families import SPLIT


@dataclass(frozen=True)
class Graded:
    """What one question scores, 0 to 1; `parsed` and `gold` as in `QuestionScore`."""

    parsed: Any
    gold: str
    score: float


def report_of(
    benchmark: Benchmark,
    inputs: Inputs,
    metric: str,
    rows: Sequence[AnsweredRow],
    graded: Sequence[Graded],
    found: Mapping[str, Any],
    notes: tuple[str, ...] = (),
) -> Report:
    """Report with an interval over pictures.

    Args:
        benchmark: whose.
        inputs: of the scoring.
        metric: name of the headline.
        rows, graded: of every answered question.
        found: further scores, in percent; its `protocol` is added to.
        notes: sentences for people.
    """
    questions = [
        QuestionScore(row.id, one.parsed, one.gold, one.score, unit=row.image)
        for row, one in zip(rows, graded, strict=True)
    ]
    estimate = mean_by_picture([one.score for one in graded], [row.image for row in rows], inputs.seed)
    mean = estimate.to_json()
    headline = Headline(metric, mean["value"], tuple(mean["ci95"]))
    protocol = {"split": inputs.split or SPLIT, "boxes": benchmark.variants[inputs.variant]}
    scores = {metric: headline.value, **found, "protocol": protocol | dict(found.get("protocol", {}))}
    return Report(len(questions), headline, scores, questions, notes)
