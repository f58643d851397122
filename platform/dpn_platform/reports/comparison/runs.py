"""Scored runs side by side: headlines, paired differences to the first run, and two averages of each.

The first run is the yardstick. A gain of the method is shown by comparing with its control: the uncompressed model
trained with the same recipe (spec peer-methods 0, A8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.benchmarks.statistics.paired import PairedDifference, RunScore, holm, paired_difference, run_score
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun
from dpn_platform.reports.comparison.reference_tables import average, average_recipes

PAPER = "table1"
#: what brings a headline to the scale of a percentage
DIVISORS = {"mme": 20.0}


@dataclass(frozen=True)
class Average:
    """A mean over benchmarks of every run, and its difference to the first run's.

    Attributes:
        columns: benchmark -> divisor.
        missing: columns that the runs lack; the average is then None.
        differences: run -> (value, 95% interval), every benchmark's questions drawn apart.
    """

    columns: dict[str, float]
    missing: tuple[str, ...]
    values: dict[str, float | None]
    differences: dict[str, tuple[float, tuple[float, float]]]


@dataclass(frozen=True)
class RunComparison:
    """All there is to say about some scored runs.

    Attributes:
        scores: benchmark -> run -> headline.
        differences: benchmark -> each other run against the first.
        paper_average: as the paper forms it: eight columns, MME/20, without MMMU, SEED and VizWiz.
        full_average: over every benchmark compared, with an interval for its difference.
    """

    runs: tuple[str, ...]
    scores: dict[str, dict[str, RunScore]]
    differences: dict[str, list[PairedDifference]]
    paper_average: Average
    full_average: Average

    def to_json(self) -> dict[str, Any]:
        """One JSON document; wins and losses as question ids."""
        return {
            "base": self.runs[0],
            "runs": list(self.runs),
            "benchmarks": {name: self._benchmark(name) for name in self.scores},
            "averages": {"paper": _average_json(self.paper_average), "full": _average_json(self.full_average)},
        }

    def _benchmark(self, name: str) -> dict[str, Any]:
        scores = self.scores[name]
        return {
            "n": next(iter(scores.values())).n,
            "scores": {run: {"value": score.value, "ci95": list(score.ci95)} for run, score in scores.items()},
            "differences": [_difference_json(difference) for difference in self.differences[name]],
        }


def compare_runs(runs: Sequence[ScoredRun], seed: int = 0) -> RunComparison:
    """Every other run against the first, on the benchmarks that all have (see `scored_runs.read_runs`).

    Raises:
        DpnError: the runs answered other questions.
    """
    base, others = runs[0], runs[1:]
    names = list(base.benchmarks)
    scores = {name: {run.name: run_score(run, name, seed) for run in runs} for name in names}
    differences = _with_holm({name: [paired_difference(base, other, name, seed) for other in others] for name in names})
    full = {name: DIVISORS.get(name, 1.0) for name in names}
    return RunComparison(
        tuple(run.name for run in runs),
        scores,
        differences,
        _average(average_recipes()[PAPER], scores, differences),
        _average(full, scores, differences),
    )


def run_scores(comparison: RunComparison, run: str) -> dict[str, float | None]:
    """Benchmark -> headline of one run, as `average` takes them."""
    return {name: scores[run].value for name, scores in comparison.scores.items()}


def _with_holm(differences: dict[str, list[PairedDifference]]) -> dict[str, list[PairedDifference]]:
    """Corrected over all benchmarks and runs: among twenty tests one is below 5% by chance."""
    adjusted = iter(holm([one.p_value for of_benchmark in differences.values() for one in of_benchmark]))
    return {
        name: [replace(one, p_holm=next(adjusted)) for one in of_benchmark]
        for name, of_benchmark in differences.items()
    }


def _average(
    columns: dict[str, float], scores: dict[str, dict[str, RunScore]], differences: dict[str, list[PairedDifference]]
) -> Average:
    missing = tuple(name for name in columns if name not in scores)
    runs = next(iter(scores.values()))
    values = {run: average({name: scores[name][run].value for name in scores}, columns) for run in runs}
    found: dict[str, tuple[float, tuple[float, float]]] = {}
    for place, other in enumerate([] if missing else list(runs)[1:]):
        parts = [(differences[name][place], divisor) for name, divisor in columns.items()]
        draws = np.sum([part.draws / divisor for part, divisor in parts], axis=0) / len(parts)
        found[other] = (sum(part.value / divisor for part, divisor in parts) / len(parts), interval(draws))
    return Average(dict(columns), missing, values, found)


def _difference_json(difference: PairedDifference) -> dict[str, Any]:
    return {
        "run": difference.other,
        "difference": difference.value,
        "ci95": list(difference.ci95),
        "resolved": difference.is_resolved,
        "mcnemar_p": difference.p_value,
        "mcnemar_p_holm": difference.p_holm,
        "wins": list(difference.wins),
        "losses": list(difference.losses),
    }


def _average_json(mean: Average) -> dict[str, Any]:
    return {
        "columns": mean.columns,
        "missing": list(mean.missing),
        "values": mean.values,
        "differences": {
            run: {"difference": value, "ci95": list(ci), "resolved": ci[0] > 0 or ci[1] < 0}
            for run, (value, ci) in mean.differences.items()
        },
    }
