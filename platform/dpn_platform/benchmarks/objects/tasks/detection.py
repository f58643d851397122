"""Detection by index, of the rows of a data set that ask for categories: F1 of every question, and COCO's AP beside it.

The headline is the mean F1 at IoU .5 of the questions: runs can be compared question by question, and a study can have
it as its axis. AP is a number of the set as a whole.
"""

from __future__ import annotations

from functools import partial

from dpn_platform.benchmarks.contract import Benchmark, Inputs, Report
from dpn_platform.benchmarks.objects.coco_scores import MISSING, has_coco
from dpn_platform.benchmarks.objects.detection import DetectionReport, detection_report
from dpn_platform.benchmarks.objects.estimates import in_percent
from dpn_platform.benchmarks.objects.image_answers import categories_of
from dpn_platform.benchmarks.objects.tasks.answered_rows import (
    VARIANTS,
    AnsweredRow,
    prompt,
    read_answered,
    stored_prompt,
)
from dpn_platform.benchmarks.objects.tasks.families import DETECTION, FAMILIES, layout_of
from dpn_platform.benchmarks.objects.tasks.reporting import Graded, report_of
from dpn_platform.benchmarks.objects.tasks.truths import true_boxes
from dpn_platform.benchmarks.objects.tasks.wording import asked_categories

_HEADLINE = "f1_50"
#: spec chatrex 3.1
_LIMIT = 512


def score(inputs: Inputs) -> Report:
    """Answers against the true boxes of what was asked for; what a question is worth is its F1.

    Raises:
        DpnError: the files do not fit each other.
    """
    rows = read_answered(BENCHMARK, inputs)
    report = answered_detection(rows, inputs.seed)
    graded = [
        Graded({phrase: list(named) for phrase, named in row.parsed.groups.items()}, row.gold, f1)
        for row, f1 in zip(rows, report.f1, strict=True)
    ]
    coco = report.coco.get(report.ranking, {})
    found = {
        **{name: in_percent(coco[name]) for name in ("AP", "AP50", "AP75") if name in coco},
        "precision_50": in_percent(report.precision.value),
        "recall_50": in_percent(report.recall.value),
        "proposal_recall_50": in_percent(report.proposal_recall["at_50"]),
        **report.to_json(),
    }
    return report_of(BENCHMARK, inputs, _HEADLINE, rows, graded, found, () if has_coco() else (MISSING,))


def answered_detection(rows: list[AnsweredRow], seed: int) -> DetectionReport:
    """All there is to say of the answered rows; without COCO's numbers where their package is missing."""
    answers = [
        row.against(true_boxes(row.record, row.gold, row.shown.size), asked_categories(row.question, row.gold))
        for row in rows
    ]
    categories = categories_of((one.image, one.asked, one.truth) for one in answers)
    return detection_report(answers, categories, seed, with_ap=has_coco())


BENCHMARK = Benchmark(
    name=DETECTION,
    variants=VARIANTS,
    limits=dict.fromkeys(VARIANTS, _LIMIT),
    prompt=partial(prompt, limit=_LIMIT),
    score=score,
    layouts=(layout_of(DETECTION, asked_categories),),
    stored_prompt=stored_prompt,
    scores_parts=True,
    families=FAMILIES[DETECTION],
)
