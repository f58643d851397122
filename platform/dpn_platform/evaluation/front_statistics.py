"""The front as an estimate: how sure each point's place on it is, its hypervolume and its picks with intervals.

One bootstrap for all: every draw takes pictures with their questions, and of a setting with several training seeds
some of these; then a front is drawn from it. A draw depends on questions and seed alone, so points that an extension
adds are worked out by themselves and join those that are there.

The best of many is flattered by the questions that chose it, and a bootstrap's percentiles are so twice. So fronts are
chosen in each draw and measured on the pictures that it left out; intervals lie around that.

Shape letters: P settings, R draws; the last column is no draw but what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dpn_platform.benchmarks.statistics.bootstrap import interval
from dpn_platform.benchmarks.statistics.drawn_fronts import DrawnFronts
from dpn_platform.benchmarks.statistics.pictures import Floats, Integers, drawn_seeds
from dpn_platform.benchmarks.statistics.seed_variance import variance_parts
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.common_outcomes import CommonOutcomes, common_outcomes
from dpn_platform.evaluation.front_records import Estimate, FrontStatistics, Pick, SeedGroup, VolumeAt
from dpn_platform.evaluation.pareto import REFERENCE, flops_ratio, is_measured
from dpn_platform.evaluation.points import Convention, Point, by_seed_group

NUM_DRAWS = 1000
#: FLOPs ratios under which the most accurate point is named
BUDGETS = (0.2, 0.4, 0.6, 0.8)
_NAMED_RIVALS = 3


class Column(NamedTuple):
    """One point in every draw: accuracy, accuracy on what the draw left out, cost; (R,) each."""

    accuracy_R: Floats
    fresh_R: Floats
    cost_R: Floats


@dataclass
class DrawnPoints:
    """Columns of points, worked out once; points of later extensions are added."""

    convention: Convention
    seed: int = 0
    num_draws: int = NUM_DRAWS
    columns: dict[str, Column] = field(default_factory=dict)

    def add(self, points: Sequence[Point], outcomes: CommonOutcomes) -> None:
        """Draws the points that have no column yet. All additions have to be of the same questions."""
        new = [point for point in points if point.name in outcomes.of and point.name not in self.columns]
        if not new:
            return
        answered = [outcomes.of[point.name] for point in new]
        pictures, given = outcomes.pictures, (self.seed, self.num_draws)
        score_PC, macs_PC, dense_PC = (np.stack(one) for one in zip(*answered, strict=True))
        inside_PR, outside_PR = pictures.drawn_means(score_PC, *given)
        change_PR = pictures.drawn_ratios(macs_PC, dense_PC, *given) / (macs_PC.sum(1) / dense_PC.sum(1))[:, None]
        for place, point in enumerate(new):
            cost = flops_ratio(point, self.convention)
            # Around the point's own ratio, which is over every question that the model ran for.
            change_R = np.nan_to_num(change_PR[place], nan=1.0)
            self.columns[point.name] = Column(
                np.append(inside_PR[place], point.accuracy),
                np.append(outside_PR[place], point.accuracy),
                np.append(cost * change_R, cost),
            )

    def setting(self, name: str, members: Sequence[Point]) -> Column:
        """Seeds of one setting as one: drawn anew in every draw."""
        if len(members) == 1:
            return self.columns[members[0].name]
        weight_SR = drawn_seeds(name, len(members), self.seed, self.num_draws)
        weight_SR = np.column_stack([weight_SR, np.full(len(members), 1 / len(members))])
        of_seeds = [self.columns[one.name] for one in members]
        return Column(*((weight_SR * np.stack(values)).sum(axis=0) for values in zip(*of_seeds, strict=True)))


def statistics_of_points(
    points: Sequence[Point], convention: Convention, seed: int = 0, num_draws: int = NUM_DRAWS
) -> FrontStatistics | None:
    """The statistics of a study's front; None where no outcomes can be compared, or all are of one picture.

    Args:
        points: of a study, each seed by itself, with their outcome tables in storage.
        convention: of the costs.
        seed: of the draws.
        num_draws: a share is known to 1.6 points at 1000.
    """
    measured = [point for point in points if is_measured(point, convention)]
    try:
        outcomes = common_outcomes(measured, convention)
    except DpnError:
        return None
    if np.bincount(outcomes.pictures.benchmark_C).min() < 2:
        return None  # no draw leaves anything out
    drawn = DrawnPoints(convention, seed, num_draws)
    drawn.add(measured, outcomes)
    return front_statistics([point for point in measured if point.name in outcomes.of], outcomes, drawn)


def front_statistics(points: Sequence[Point], outcomes: CommonOutcomes, drawn: DrawnPoints) -> FrontStatistics:
    """The same, of points that are drawn already."""
    states = list(_states(points))
    columns = [drawn.setting(state.name, state.members) for state in states]
    accuracy_PR, fresh_PR, cost_PR = (np.stack(values) for values in zip(*columns, strict=True))
    now = np.array([state.until is None for state in states])
    names = [state.name for state, is_now in zip(states, now, strict=True) if is_now]
    fronts = DrawnFronts.of(accuracy_PR[now], cost_PR[now], fresh_PR[now])
    shares = fronts.membership()[:, :-1].mean(axis=1)
    return FrontStatistics(
        convention=drawn.convention,
        benchmarks=outcomes.benchmarks,
        n=outcomes.pictures.num_questions,
        pictures=len(outcomes.pictures.size_C),
        draws=drawn.num_draws,
        seed=drawn.seed,
        membership={name: float(share) for name, share in zip(names, shares, strict=True)},
        hypervolume=_estimate(*fronts.volumes(REFERENCE.flops_ratio)),
        picks=tuple(_picks(fronts, names, accuracy_PR[now], fresh_PR[now], cost_PR[now])),
        history=tuple(_history(DrawnFronts.of(accuracy_PR, cost_PR, fresh_PR), states)),
        seeds=tuple(_seed_groups(outcomes, states, columns)),
        left_out=dict(outcomes.left_out),
    )


class _State(NamedTuple):
    """A setting while it has these seeds: from one extension until another brings more; None: to this day."""

    name: str
    members: tuple[Point, ...]
    since: int
    until: int | None


def _states(points: Sequence[Point]) -> Iterator[_State]:
    for name, members in by_seed_group(points).items():
        steps = sorted({point.extension for point in members})
        for since, until in zip(steps, [*steps[1:], None], strict=True):
            known = tuple(point for point in members if point.extension <= since)
            yield _State(name if len(members) > 1 else members[0].name, known, since, until)


def _estimate(inside_R: Floats, outside_R: Floats) -> Estimate:
    """The last entries are what was measured."""
    value = float(np.nanmean(outside_R[:-1]))
    low, high = interval(inside_R[:-1] - inside_R[:-1].mean())
    return Estimate(measured=float(inside_R[-1]), value=value, ci=(value + low, value + high))


def _picks(
    fronts: DrawnFronts, names: Sequence[str], accuracy_PR: Floats, fresh_PR: Floats, cost_PR: Floats
) -> Iterator[Pick]:
    rules: Mapping[str, Integers] = {
        "knee": fronts.knees(),
        **{f"best under {budget:g}": fronts.best_under(budget) for budget in BUDGETS},
    }
    for rule, place_R in rules.items():
        chosen = int(place_R[-1])
        if chosen < 0:
            continue
        counts = np.bincount(place_R[:-1][place_R[:-1] >= 0], minlength=len(names)) / (len(place_R) - 1)
        others = [int(place) for place in np.argsort(-counts, kind="stable") if place != chosen and counts[place] > 0]
        draws = np.flatnonzero(place_R >= 0)
        yield Pick(
            rule=rule,
            point=names[chosen],
            share=float(counts[chosen]),
            cost=float(cost_PR[chosen, -1]),
            accuracy=_estimate(accuracy_PR[place_R[draws], draws], fresh_PR[place_R[draws], draws]),
            others={names[place]: float(counts[place]) for place in others[:_NAMED_RIVALS]},
        )


def _history(fronts: DrawnFronts, states: Sequence[_State]) -> Iterator[VolumeAt]:
    """One ordering for all; after every extension, the points that were known by then."""
    before: tuple[Floats, Floats] | None = None
    for number in sorted({state.since for state in states}):
        known = [state.since <= number and (state.until is None or number < state.until) for state in states]
        volumes = fronts.volumes(REFERENCE.flops_ratio, np.array(known))
        gain = None if before is None else _estimate(volumes[0] - before[0], volumes[1] - before[1])
        yield VolumeAt(extension=number, num_points=sum(known), volume=_estimate(*volumes), gain=gain)
        before = volumes


def _seed_groups(outcomes: CommonOutcomes, states: Sequence[_State], columns: Sequence[Column]) -> Iterator[SeedGroup]:
    for state, column in zip(states, columns, strict=True):
        if len(state.members) < 2 or state.until is not None:
            continue
        parts = variance_parts(outcomes.pictures, np.stack([outcomes.of[one.name].score_C for one in state.members]))
        yield SeedGroup(
            setting=state.name,
            num_seeds=len(state.members),
            mean=float(column.accuracy_R[-1]),
            ci=interval(column.accuracy_R[:-1]),
            seeds_error=parts.seeds**0.5,
            questions_error=parts.questions**0.5,
        )
