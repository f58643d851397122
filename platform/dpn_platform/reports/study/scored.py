"""The points of a study with the scores of their questions: seeds together, differences paired question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.benchmarks.statistics.mixtures import mixed
from dpn_platform.benchmarks.statistics.paired import paired_difference
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, read_runs
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import flops_ratio
from dpn_platform.evaluation.points import Convention, Point, by_seed_group
from dpn_platform.reports.study.difference import Difference


@dataclass(frozen=True)
class Entry:
    """A point, its seeds together; `run` holds the scores of its questions."""

    name: str
    method: str
    cost: float
    accuracy: float
    run: ScoredRun


def run_of(point: Point) -> ScoredRun:
    """The scored questions of a point.

    Raises:
        DpnError: its outcome table is missing or was not scored.
    """
    return read_runs([str(point.outcomes_uri)])[0]


def is_mean_of(run: ScoredRun, point: Point) -> bool:
    """Whether the point's accuracy is the mean score of these questions, so that they can be drawn one by one."""
    return abs(accuracy_of(run) - point.accuracy) < 1e-6


def accuracy_of(run: ScoredRun) -> float:
    """The mean over benchmarks of the mean score of their questions."""
    means = [np.mean([question.score for question in questions.values()]) for questions in run.benchmarks.values()]
    return float(np.mean(means))


def entries_of(points: Sequence[Point], runs: Mapping[str, ScoredRun], convention: Convention) -> list[Entry]:
    """An entry for every setting.

    Args:
        points: each seed by itself.
        runs: name of a point -> its scored questions.
        convention: of the cost.

    Raises:
        DpnError: seeds of one setting answered other questions.
        ValueError: a benchmark whose headline is no mean over questions.
    """
    found = []
    for name, members in by_seed_group(points).items():
        together = mixed(name, [runs[one.name] for one in members], [1 / len(members)] * len(members))
        cost = float(np.mean([flops_ratio(one, convention) for one in members]))
        found.append(Entry(name, members[0].method, cost, accuracy_of(together), together))
    return found


def paired_change(run: ScoredRun, rival: ScoredRun, seed: int) -> Difference:
    """`run` minus `rival`, the mean over benchmarks, with its paired interval; fractions.

    Raises:
        DpnError: their questions or benchmarks differ.
    """
    if run.benchmarks.keys() != rival.benchmarks.keys():
        names = (", ".join(one.benchmarks) for one in (rival, run))
        raise DpnError(f"they answer other benchmarks ({' / '.join(names)})")
    found = [paired_difference(rival, run, benchmark, seed) for benchmark in run.benchmarks]
    low, high = interval(np.mean([one.draws for one in found], axis=0))
    return Difference(float(np.mean([one.value for one in found])) / 100, low / 100, high / 100)
