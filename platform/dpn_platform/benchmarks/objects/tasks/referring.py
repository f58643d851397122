"""Referring expressions, of the rows of a data set that ask for one: whether the best answered box is a meant one.

Where an expression means nothing in its picture, no box at all is right.
"""

from __future__ import annotations

from functools import partial

from dpn_platform.benchmarks.contract import Benchmark, Inputs, Report
from dpn_platform.benchmarks.objects.referring import referring_report
from dpn_platform.benchmarks.objects.tasks.answered_rows import VARIANTS, prompt, read_answered, stored_prompt
from dpn_platform.benchmarks.objects.tasks.families import FAMILIES, REFERRING, layout_of
from dpn_platform.benchmarks.objects.tasks.reporting import Graded, report_of
from dpn_platform.benchmarks.objects.tasks.truths import meant_boxes
from dpn_platform.benchmarks.objects.tasks.wording import asked_expression

#: a group of all boxes that can be named, and its phrase
_LIMIT = 256


def score(inputs: Inputs) -> Report:
    """The share of right answers, those to expressions that mean nothing among them.

    Raises:
        DpnError: the files do not fit each other.
    """
    rows = read_answered(BENCHMARK, inputs)
    answers = []
    for row in rows:
        expression = asked_expression(row.question, row.gold)
        answers.append(row.against(meant_boxes(row.record, row.gold, expression), (expression,)))
    report = referring_report(answers, inputs.seed)
    graded = [Graded(list(row.parsed.indices), row.gold, right) for row, right in zip(rows, report.right, strict=True)]
    return report_of(BENCHMARK, inputs, "accuracy", rows, graded, report.to_json())


BENCHMARK = Benchmark(
    name=REFERRING,
    variants=VARIANTS,
    limits=dict.fromkeys(VARIANTS, _LIMIT),
    prompt=partial(prompt, limit=_LIMIT),
    score=score,
    layouts=(layout_of(REFERRING, asked_expression),),
    stored_prompt=stored_prompt,
    scores_parts=True,
    families=FAMILIES[REFERRING],
)
