"""Two runs on the same questions: paired bootstrap of the headline's difference, McNemar's test, wins and losses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpn_platform.benchmarks.contract import QuestionScore
from dpn_platform.benchmarks.registry import MODULES
from dpn_platform.benchmarks.statistics.bootstrap import Array, interval, resample
from dpn_platform.benchmarks.statistics.headlines import HeadlineRule, combined, parts_of, rule_of
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, matched

_PARTS_AT_MOST = 100


@dataclass(frozen=True)
class RunScore:
    """A headline with its bootstrap 95% interval, and the draws behind it."""

    value: float
    ci95: tuple[float, float]
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """`other` minus `base` on one benchmark, the same questions drawn for both.

    Attributes:
        wins, losses: ids of questions that `other` scores higher or lower than `base`.
        p_value: McNemar's exact test (two-sided) on wins against losses; for graded scores this is the sign test.
        p_holm: the same after Holm's correction over all tests of the report; set by `with_holm`.
    """

    benchmark: str
    base: str
    other: str
    value: float
    ci95: tuple[float, float]
    n: int
    wins: tuple[Any, ...]
    losses: tuple[Any, ...]
    p_value: float
    draws: Array = field(repr=False, compare=False)
    p_holm: float = math.nan

    @property
    def is_resolved(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


def run_score(run: ScoredRun, benchmark: str, seed: int = 0) -> RunScore:
    """One run's headline, as `dpn score` forms it."""
    questions = list(run.benchmarks[benchmark].values())
    (value,), (draws,) = _headlines(benchmark, [(question,) for question in questions], seed)
    return RunScore(value, interval(draws), len(questions))


def paired_difference(base: ScoredRun, other: ScoredRun, benchmark: str, seed: int = 0) -> PairedDifference:
    """Compares two runs on one benchmark.

    Raises:
        DpnError: their questions differ.
    """
    pairs = matched(base, other, benchmark)
    (before, after), (base_draws, other_draws) = _headlines(benchmark, pairs, seed)
    wins, losses = _wins_and_losses(rule_of(benchmark), pairs)
    draws = other_draws - base_draws
    return PairedDifference(
        benchmark,
        base.name,
        other.name,
        after - before,
        interval(draws),
        len(pairs),
        wins,
        losses,
        mcnemar(len(wins), len(losses)),
        draws,
    )


def mcnemar(wins: int, losses: int) -> float:
    """McNemar's exact two-sided p-value: `wins` of all discordant questions under a fair coin; 1.0 without any."""
    n, fewer = wins + losses, min(wins, losses)
    base = math.lgamma(n + 1) - n * math.log(2)
    tail = (math.exp(base - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in range(fewer + 1))
    return min(1.0, 2.0 * math.fsum(tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: what each p-value is worth among as many tests."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _headlines(benchmark: str, pairs: Sequence[Sequence[QuestionScore]], seed: int) -> tuple[list[float], list[Array]]:
    """Each run's headline, and its draws; a unit that is drawn is drawn for every run."""
    rule = rule_of(benchmark)
    runs = range(len(pairs[0]))
    values: list[list[Array]] = [[] for _ in runs]
    draws: list[list[Array]] = [[] for _ in runs]
    # Every part of every benchmark has random numbers of its own.
    first_stratum = _PARTS_AT_MOST * list(MODULES).index(benchmark)
    for number, (_, units) in enumerate(sorted(parts_of(pairs).items())):
        outcomes: list[Hashable] = [tuple(rule.outcome(unit) for unit in of_runs) for of_runs in units]
        kinds, counts = resample(outcomes, seed, first_stratum + number)
        found = Counter(outcomes)
        exact = np.array([[found[kind] for kind in kinds]], dtype=np.float64)
        for run in runs:
            of_run = [kind[run] for kind in kinds if isinstance(kind, tuple)]
            values[run].append(rule.statistic(of_run, exact))
            draws[run].append(rule.statistic(of_run, counts))
    return [float(combined(rule, parts)[0]) for parts in values], [combined(rule, parts) for parts in draws]


def _wins_and_losses(
    rule: HeadlineRule, pairs: Sequence[tuple[QuestionScore, QuestionScore]]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    if rule.compares_units:
        units = [unit for units in parts_of(pairs).values() for unit in units]
        items = [(unit[0][0].id, *(min(question.score for question in of_run) for of_run in unit)) for unit in units]
    else:
        # MME's two questions of an image share an id: their answers tell them apart.
        items = [
            (base.id if base.part is None or base.unit is None else f"{base.id} ({base.gold})", base.score, other.score)
            for base, other in pairs
        ]
    wins = tuple(identity for identity, base, other in items if other > base)
    return wins, tuple(identity for identity, base, other in items if other < base)
