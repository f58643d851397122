"""Names of regions, of the rows of a data set whose question names boxes: words that answer and truth share.

With a sentence model's folder (option `sentence_model`) also how near both lie in its space. The record's own boxes are
shown, since the question names them.
"""

from __future__ import annotations

from functools import partial

from dpn_platform.benchmarks.contract import REFERENCE, Benchmark, Inputs, Report
from dpn_platform.benchmarks.objects.regions import RegionAnswer, region_report, said_of
from dpn_platform.benchmarks.objects.sentence_model import SentenceModel
from dpn_platform.benchmarks.objects.tasks.answered_rows import prompt, read_answered, stored_prompt
from dpn_platform.benchmarks.objects.tasks.families import FAMILIES, REGIONS, layout_of
from dpn_platform.benchmarks.objects.tasks.reporting import Graded, report_of
from dpn_platform.benchmarks.objects.tasks.wording import region_names

SENTENCE_MODEL = "sentence_model"
_VARIANTS = {REFERENCE: "the record's own boxes are shown, which the question names"}
#: a description in one sentence
_LIMIT = 128


def score(inputs: Inputs) -> Report:
    """S-IoU of every question, the mean over its regions.

    Raises:
        DpnError: the files do not fit each other, or no sentence model is in the folder that is given for one.
    """
    rows = read_answered(BENCHMARK, inputs)
    folder = inputs.options.get(SENTENCE_MODEL)
    model = None if folder is None else SentenceModel.of_folder(folder)
    names = [region_names(row.question, row.gold) for row in rows]
    regions = [
        RegionAnswer(row.image, said_of(row.text, index, len(row.shown)), name)
        for row, of_row in zip(rows, names, strict=True)
        for index, name in of_row.items()
    ]
    report = region_report(regions, model, inputs.seed)
    each, graded = iter(zip(regions, report.each, strict=True)), []
    for of_row in names:
        own = [next(each) for _ in of_row]
        said, true = ("; ".join(part) for part in ([one.said for one, _ in own], [one.true for one, _ in own]))
        graded.append(Graded(said, true, sum(value for _, value in own) / len(own)))
    found = report.to_json()
    found["protocol"] = {SENTENCE_MODEL: folder, "regions": len(regions)}
    return report_of(BENCHMARK, inputs, "s_iou", rows, graded, found)


BENCHMARK = Benchmark(
    name=REGIONS,
    variants=_VARIANTS,
    limits={REFERENCE: _LIMIT},
    prompt=partial(prompt, limit=_LIMIT),
    score=score,
    layouts=(layout_of(REGIONS, region_names),),
    stored_prompt=stored_prompt,
    scores_parts=True,
    families=FAMILIES[REGIONS],
    options={SENTENCE_MODEL: "folder of a sentence model (all-MiniLM-L6-v2 in the papers), for the score SS"},
)
