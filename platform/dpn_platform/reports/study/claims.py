"""Does it beat the controls? Every point against the best mixture of controls at its own mean cost, paired.

Two controls, mixed so that their mean cost is the point's, are what a coin could do with them; a control that is
cheaper counts by itself. Of all these the best is taken, by the same questions, which favours the controls. Points that
differ in their seed alone are averaged first, question by question.

A point whose checkpoint was also run on each of its routes is held against these, shuffled among its samples. Whether
it is dynamic is a longer proof, `reports/dynamic`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.benchmarks.statistics.mixtures import best_mixture, mixed
from dpn_platform.benchmarks.statistics.paired import paired_difference
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, read_runs
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import flops_ratio, is_measured
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.evaluation.seeds import by_seed_group
from dpn_platform.reports.dynamic.material import ROUTE, Material, materials_of_points
from dpn_platform.reports.dynamic.prove import shuffled_gain
from dpn_platform.reports.dynamic.table import route_table
from dpn_platform.reports.look.methods import is_yardstick
from dpn_platform.reports.study.difference import Claim, Difference


@dataclass(frozen=True)
class _Entry:
    """A point, its seeds together; `run` holds the scores of its questions."""

    name: str
    method: str
    cost: float
    accuracy: float
    run: ScoredRun


def claims_of(points: Sequence[Point], convention: Convention, seed: int = 0) -> tuple[Claim, ...]:
    """A claim for every measured point that is no control; none where outcomes cannot be compared.

    Left out are points that are cheaper than every control, and studies whose accuracy is no mean over questions.

    Args:
        points: of a study, with their outcome tables in storage.
        convention: of the cost.
        seed: of the bootstrap.
    """
    measured = [point for point in points if is_measured(point, convention) and point.outcomes_uri]
    try:
        runs = {point.name: read_runs([str(point.outcomes_uri)])[0] for point in measured}
        measured = [point for point in measured if abs(_accuracy(runs[point.name]) - point.accuracy) < 1e-6]
        chosen = [point for point in measured if ROUTE not in point.params]
        entries = _entries(chosen, runs, convention)
        yardsticks = [one for one in entries if is_yardstick(one.method)]
        claims = [_against_controls(one, yardsticks, seed) for one in entries if not is_yardstick(one.method)]
        dealt = materials_of_points([point for point in measured if ROUTE in point.params or _num_routes(point) > 1])
        claims += [
            _against_shuffled(dealt[point.name], flops_ratio(point, convention), convention, seed)
            for point in chosen
            if point.name in dealt
        ]
    except (DpnError, ValueError, KeyError):  # other questions, or no scores: nothing is claimed
        return ()
    return tuple(claim for claim in claims if claim is not None)


def _accuracy(run: ScoredRun) -> float:
    """The mean over benchmarks of the mean score of their questions."""
    means = [np.mean([question.score for question in questions.values()]) for questions in run.benchmarks.values()]
    return float(np.mean(means))


def _entries(points: Sequence[Point], runs: dict[str, ScoredRun], convention: Convention) -> list[_Entry]:
    found = []
    for name, members in by_seed_group(points).items():
        together = mixed(name, [runs[one.name] for one in members], [1 / len(members)] * len(members))
        cost = float(np.mean([flops_ratio(one, convention) for one in members]))
        found.append(_Entry(name, members[0].method, cost, _accuracy(together), together))
    return found


def _against_controls(point: _Entry, yardsticks: Sequence[_Entry], seed: int) -> Claim | None:
    shares = best_mixture(point.cost, [one.cost for one in yardsticks], [one.accuracy for one in yardsticks])
    if shares is None:
        return None
    named = {yardsticks[place].name: share for place, share in shares}
    change = _change(point.run, [yardsticks[place].run for place, _ in shares], list(named.values()), seed)
    return Claim(point.name, {name: round(share, 4) for name, share in named.items()}, point.cost, change)


def _against_shuffled(dealt: Material, cost: float, convention: Convention, seed: int) -> Claim | None:
    """None for a point that was not run on each of its routes, on the same questions."""
    try:
        table = route_table(dealt, convention)
    except DpnError:
        return None
    gain = shuffled_gain(table, table.choices[0], seed)
    shares = {route: round(share, 4) for route, share in gain.shares.items()}
    return Claim(dealt.name, shares, cost, Difference(gain.value, *gain.ci), "own routes shuffled")


def _num_routes(point: Point) -> int:
    """Routes that its samples took."""
    return len({route for taken in point.routes.values() for route in taken})


def _change(run: ScoredRun, rivals: Sequence[ScoredRun], shares: Sequence[float], seed: int) -> Difference:
    """`run` minus the mixture, the mean over benchmarks, with its paired interval; fractions."""
    rival = mixed(" + ".join(one.name for one in rivals), rivals, shares)
    found = [paired_difference(rival, run, benchmark, seed) for benchmark in run.benchmarks]
    low, high = interval(np.mean([one.draws for one in found], axis=0))
    return Difference(float(np.mean([one.value for one in found])) / 100, low / 100, high / 100)
