"""AP of runs whose answers name boxes: a number of the set and no mean over questions, so it has a table of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.objects.coco_scores import MISSING, has_coco
from dpn_platform.benchmarks.objects.comparison import ap_change, check_same_categories
from dpn_platform.benchmarks.objects.detection import DetectionReport
from dpn_platform.benchmarks.objects.estimates import Estimate
from dpn_platform.benchmarks.objects.tasks.answered_rows import read_answered
from dpn_platform.benchmarks.objects.tasks.detection import BENCHMARK, answered_detection
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, tables_in
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.recorded_runs import RESULT
from dpn_platform.storage import exists, open_uri, read_json


@dataclass(frozen=True)
class ApScore:
    """One run's AP.

    Attributes:
        ranking: what ranks its boxes.
        change: to the first run's, the same pictures drawn for both; None of the first.
    """

    run: str
    ranking: str
    ap: Estimate
    change: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Plain data, in percent."""
        change = None if self.change is None else self.change.to_json()
        return {"run": self.run, "ranking": self.ranking, "ap": self.ap.to_json(), "change": change}


@dataclass(frozen=True)
class ApComparison:
    """AP of every run on the questions that ask for categories.

    Attributes:
        categories: which ones the questions name, see `image_answers.categories_of`.
        left_out: why there is no AP, where the runs answered by boxes.
    """

    categories: str = ""
    scores: tuple[ApScore, ...] = ()
    left_out: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        scores = [one.to_json() for one in self.scores]
        return {"categories": self.categories, "scores": scores, "left_out": self.left_out}


@dataclass(frozen=True)
class _Evaluated:
    """A run's evaluation, as it said of itself."""

    name: str
    about: Mapping[str, Any] = field(repr=False)

    @property
    def categories(self) -> str:
        return str(self.about["scores"]["protocol"]["categories"])

    def report(self, seed: int) -> DetectionReport:
        names = ("answers_uri", "annotations", "variant", "split")
        answers, annotations, variant, split = (str(self.about[name]) for name in names)
        inputs = Inputs(answers, annotations, variant=variant, seed=seed, split=split)
        return answered_detection(read_answered(BENCHMARK, inputs), seed)


def compare_ap(runs: Sequence[ScoredRun], seed: int = 0) -> ApComparison:
    """The runs' AP and how it differs from the first's.

    AP is worked out anew from answers and data set, which the evaluations name: scores of questions do not have it.

    Raises:
        DpnError: one run was asked for categories of each picture, another for all.
    """
    if any(BENCHMARK.name not in run.benchmarks for run in runs):
        return ApComparison()
    evaluated = [_Evaluated(run.name, about) for run in runs if (about := _about(run)) is not None]
    for other in evaluated[1:]:
        first = evaluated[0]
        check_same_categories(first.categories, other.categories, (first.name, other.name))
    if len(evaluated) < len(runs):
        known = [one.name for one in evaluated]
        missing = next(run for run in runs if run.name not in known)
        return ApComparison(left_out=f"{missing.uri} is no evaluation of `dpn evaluate`, whose answers AP is made of")
    if not has_coco():
        return ApComparison(left_out=MISSING)
    try:
        reports = [one.report(seed) for one in evaluated]
        changes = [None, *(ap_change(reports[0], other) for other in reports[1:])]
    except DpnError as error:
        return ApComparison(left_out=str(error))
    scores = [
        ApScore(one.name, report.ranking, report.ap[report.ranking], change)
        for one, report, change in zip(evaluated, reports, changes, strict=True)
    ]
    return ApComparison(reports[0].categories, tuple(scores))


def _about(run: ScoredRun) -> Mapping[str, Any] | None:
    """Of the evaluation whose answers name boxes: it alone, or one of several in a folder."""
    location = open_uri(run.uri).uri.rstrip("/")
    for table in [location] if location.endswith(".parquet") else tables_in(location):
        result = f"{table.rpartition('/')[0]}/{RESULT}"
        document = read_json(result) if exists(result) else {}
        part = document.get("about", {}).get("parts", {}).get(BENCHMARK.name)
        if part is not None:
            document = read_json(part) if exists(part) else {}
        if BENCHMARK.name in document.get("scores", {}):
            return dict(document["about"])
    return None
