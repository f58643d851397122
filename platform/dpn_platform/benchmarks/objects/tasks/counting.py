"""Counting, of the rows of a data set that ask how many: whether the number that an answer says is the true one."""

from __future__ import annotations

from functools import partial

from dpn_model.objects.answers import parse_answer
from dpn_platform.benchmarks.contract import Benchmark, Inputs, Report
from dpn_platform.benchmarks.objects.counting import CountAnswer, counting_report, true_number
from dpn_platform.benchmarks.objects.tasks.answered_rows import (
    VARIANTS,
    AnsweredRow,
    prompt,
    read_answered,
    stored_prompt,
)
from dpn_platform.benchmarks.objects.tasks.families import COUNTING, FAMILIES, layout_of
from dpn_platform.benchmarks.objects.tasks.reporting import Graded, report_of
from dpn_platform.benchmarks.objects.tasks.wording import told_number

#: a number, and a group of all boxes that can be named
_LIMIT = 256


def score(inputs: Inputs) -> Report:
    """The share of answers that say the true number.

    Raises:
        DpnError: the files do not fit each other.
    """
    rows = read_answered(BENCHMARK, inputs)
    answers = [CountAnswer(row.image, row.text, len(row.parsed.indices), _true_number(row)) for row in rows]
    report = counting_report(answers, inputs.seed)
    graded = [
        Graded(None if said is None else str(said), str(one.true), float(said == one.true))
        for said, one in zip(report.said, answers, strict=True)
    ]
    return report_of(BENCHMARK, inputs, "accuracy", rows, graded, report.to_json())


def _true_number(row: AnsweredRow) -> int:
    """What the gold answer says. Where that counted a detector's boxes, which may lack some, the true ones count."""
    record, told = row.record, int(told_number(row.question, row.gold))
    if record.truth is None or record.scores is None:
        return told
    return true_number(record.truth, parse_answer(row.gold, len(record.boxes)).groups) or told


BENCHMARK = Benchmark(
    name=COUNTING,
    variants=VARIANTS,
    limits=dict.fromkeys(VARIANTS, _LIMIT),
    prompt=partial(prompt, limit=_LIMIT),
    score=score,
    layouts=(layout_of(COUNTING, told_number),),
    stored_prompt=stored_prompt,
    scores_parts=True,
    families=FAMILIES[COUNTING],
)
