"""Mixtures of scored runs: each question answered by one of several runs, drawn with given shares.

A method that spends more on some samples than on others has to beat a coin that does the same: the expected score of a
question is the runs' scores, weighted. Seeds of one method are a mixture in equal shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from dpn_platform.benchmarks.statistics.headlines import is_mean_of_questions
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, matched

#: costs that differ by less are one: equal counts, other rounding
_SAME = 1e-9


def best_mixture(cost: float, costs: Sequence[float], accuracies: Sequence[float]) -> list[tuple[int, float]] | None:
    """What answers most questions at no more than this mean cost: one run, or two of them drawn with given shares.

    Args:
        cost: mean cost that is allowed.
        costs, accuracies: means of every run.

    Returns:
        (place of a run, its share), shares together 1; None where every run is dearer.
    """
    cheap = [place for place, one in enumerate(costs) if one <= cost + _SAME]
    dear = [place for place, one in enumerate(costs) if one > cost + _SAME]
    options = [[(place, 1.0)] for place in cheap]
    for below, above in product(cheap, dear):
        share = (cost - costs[below]) / (costs[above] - costs[below])
        if share > 0:
            options.append([(below, 1 - share), (above, share)])
    return max(options, key=lambda option: sum(accuracies[place] * share for place, share in option), default=None)


def mixed(name: str, runs: Sequence[ScoredRun], shares: Sequence[float]) -> ScoredRun:
    """The expected scores of a mixture.

    Args:
        name: of the mixture.
        runs: on the same questions.
        shares: of the questions that each answers, together 1.

    Raises:
        DpnError: their questions differ.
        ValueError: a benchmark whose headline is no mean over questions, of which a mixture has no expected score.
    """
    first = runs[0]
    benchmarks = {}
    for benchmark, questions in first.benchmarks.items():
        if not is_mean_of_questions(benchmark):
            raise ValueError(f"{benchmark}: its headline is no mean over questions, so mixtures have none")
        for run in runs[1:]:
            matched(first, run, benchmark)
        benchmarks[benchmark] = {
            key: replace(
                question,
                score=sum(
                    share * run.benchmarks[benchmark][key].score for share, run in zip(shares, runs, strict=True)
                ),
            )
            for key, question in questions.items()
        }
    return ScoredRun(name, first.uri, benchmarks)
