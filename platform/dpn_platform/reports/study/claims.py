"""Does it beat the controls? Every point against the best mixture of controls at its own mean cost, paired.

Two controls, mixed so that their mean cost is the point's, are what a coin could do with them; a control that is
cheaper counts by itself. Of all these the best is taken, by the same questions, which favours the controls. Points that
differ in their seed alone are averaged first, question by question.

A point whose checkpoint was also run on each of its routes is held against these, shuffled among its samples. Whether
it is dynamic is a longer proof, `reports/dynamic`.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.benchmarks.statistics.mixtures import best_mixture, mixed
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import flops_ratio, is_measured
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.reports.dynamic.material import ROUTE, Material, materials_of_points
from dpn_platform.reports.dynamic.prove import shuffled_gain
from dpn_platform.reports.dynamic.table import route_table
from dpn_platform.reports.look.methods import is_yardstick
from dpn_platform.reports.study.difference import Claim, Difference
from dpn_platform.reports.study.scored import Entry, entries_of, is_mean_of, paired_change, run_of


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
        runs = {point.name: run_of(point) for point in measured}
        measured = [point for point in measured if is_mean_of(runs[point.name], point)]
        chosen = [point for point in measured if ROUTE not in point.params]
        entries = entries_of(chosen, runs, convention)
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


def _against_controls(point: Entry, yardsticks: Sequence[Entry], seed: int) -> Claim | None:
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
    """`run` minus the mixture."""
    return paired_change(run, mixed(" + ".join(one.name for one in rivals), rivals, shares), seed)
