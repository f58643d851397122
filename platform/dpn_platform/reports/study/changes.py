"""Two studies, point by point and front by front: what moved, and how sure that is.

Where both answered the same questions the bootstrap draws these, for both at once. Else a point's difference has
Newcombe's interval, as of other questions, and that of the fronts has none; the reason is kept.

The front as it was found is a weighted sum of its points' accuracies (`front_shares`), so its hypervolume is a mean
over questions as an accuracy is, and is drawn like one. Costs, and which points are on the front, stay as they were
found: of a study with more trials the front is the luckier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.benchmarks.statistics.mixtures import mixed
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import REFERENCE, flops_ratio, front_points, hypervolume, is_measured
from dpn_platform.evaluation.points import Convention, Point, by_seed_group, without_seed
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.reports.study.difference import Difference, difference
from dpn_platform.reports.study.pairs import pair, settings_text
from dpn_platform.reports.study.scored import entries_of, is_mean_of, paired_change, run_of
from dpn_platform.storage import together

#: pairs whose outcome tables are all read; of more, those on a front
MOST_PAIRED = 60
_NO_MEAN = "the accuracy is no mean over questions"


@dataclass(frozen=True)
class Move:
    """One point in both studies.

    Attributes:
        names: in the first and the second study.
        same_settings: False: only called alike.
        accuracy, cost: in the first and the second study.
        change: of the accuracy, second minus first.
        unpaired: why its interval is not paired; None: it is.
        n: questions.
    """

    names: tuple[str, str]
    same_settings: bool
    accuracy: tuple[float, float]
    cost: tuple[float, float]
    change: Difference
    unpaired: str | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        about = {"names": list(self.names), "same_settings": self.same_settings, "n": self.n}
        both = {"accuracy": list(self.accuracy), "flops_ratio": list(self.cost)}
        return {**about, **both, **self.change.to_json(), "paired": self.unpaired is None, "reason": self.unpaired}


@dataclass(frozen=True)
class FrontChange:
    """What became of the front.

    Attributes:
        hypervolumes: of the first and the second study.
        fronts: names of the points on them.
        found_among: measured points of the studies.
        change: second minus first; None: no interval can be given, for the reason `unknown`.
        n: questions that both answered.
    """

    hypervolumes: tuple[float, float]
    fronts: tuple[list[str], list[str]]
    found_among: tuple[int, int]
    change: Difference | None
    unknown: str | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; without an interval `ci` and `resolved` are None."""
        value = self.hypervolumes[1] - self.hypervolumes[0]
        change = {"difference": value, "ci": None, "resolved": None} if self.change is None else self.change.to_json()
        return {
            "hypervolume": list(self.hypervolumes),
            **change,
            "front": [list(names) for names in self.fronts],
            "found_among": list(self.found_among),
            "reason": self.unknown,
            "n": self.n,
        }


@dataclass(frozen=True)
class _Side:
    """One study: its points, seeds together and by themselves, and the scored questions that were read."""

    points: Mapping[str, Point]
    members: Mapping[str, Sequence[Point]]
    runs: Mapping[str, ScoredRun]
    faults: Mapping[str, str]

    def run(self, name: str) -> ScoredRun:
        """Of a point, its seeds together. Raises DpnError where there is none."""
        if name in self.faults:
            raise DpnError(self.faults[name])
        return self.runs[name]


def changes_between(
    first: Sequence[Point], second: Sequence[Point], convention: Convention, seed: int = 0
) -> tuple[list[Move], FrontChange]:
    """Every point of both studies, and their fronts.

    Args:
        first, second: points of the studies, each seed by itself.
        convention: of the cost.
        seed: of the bootstrap.
    """
    pairs, same = _paired(first, second, convention)
    on_front = [
        [point.name for point in front_points(seeds_together(points), convention)] for points in (first, second)
    ]
    shown = [one for one in pairs if len(pairs) <= MOST_PAIRED or one[0] in on_front[0] or one[1] in on_front[1]]
    sides = [
        _side(points, {*on_front[place], *(one[place] for one in shown)}, convention)
        for place, points in enumerate((first, second))
    ]
    moves = [_move(one, one in same, one in shown, sides, convention, seed) for one in pairs]
    return moves, _front_change(sides, on_front, convention, seed)


def front_shares(front: Sequence[Point], convention: Convention) -> dict[str, float]:
    """Weights of the accuracies whose weighted sum is the hypervolume of a front, from no accuracy and ratio 1.

    A step of the front counts from its own cost to that of the next one.
    """
    rising: list[Point] = []
    for point in front:
        if flops_ratio(point, convention) < REFERENCE.flops_ratio and (
            not rising or point.accuracy > rising[-1].accuracy
        ):
            rising.append(point)
    costs = [*(flops_ratio(point, convention) for point in rising), REFERENCE.flops_ratio]
    return {point.name: costs[place + 1] - costs[place] for place, point in enumerate(rising)}


def _paired(
    first: Sequence[Point], second: Sequence[Point], convention: Convention
) -> tuple[list[tuple[str, str]], set[tuple[str, str]]]:
    """Measured points in both studies; and those of them whose settings are the same."""
    texts = [
        {
            point.name: settings_text(point.method, point.params, point.on)
            for point in seeds_together(points)
            if is_measured(point, convention)
        }
        for points in (first, second)
    ]
    both = pair(*texts).both
    return both, {one for one in both if texts[0][one[0]] == texts[1][one[1]]}


def _side(points: Sequence[Point], wanted: set[str], convention: Convention) -> _Side:
    """Reads the outcome tables of the wanted points, all at once; what cannot be read is kept as a reason."""
    groups = by_seed_group(points)
    whole = {one.name: one for one in seeds_together(points)}
    members = {name: groups[without_seed(name)] for name in wanted}
    found: dict[str, ScoredRun | str] = dict(together(_run_or_reason, [one for of in members.values() for one in of]))
    runs, faults = {}, {}
    for name, of in members.items():
        reasons = [one for one in (found[member.name] for member in of) if isinstance(one, str)]
        if reasons:
            faults[name] = reasons[0]
            continue
        scored = {member.name: run for member in of if isinstance(run := found[member.name], ScoredRun)}
        try:
            (entry,) = entries_of(of, scored, convention)
            runs[name] = entry.run
        except DpnError as error:
            faults[name] = str(error)
        except ValueError:
            faults[name] = _NO_MEAN
    return _Side(whole, members, runs, faults)


def _run_or_reason(point: Point) -> tuple[str, ScoredRun | str]:
    if not point.outcomes_uri:
        return point.name, f"{point.name} has no outcome table"
    try:
        run = run_of(point)
    except DpnError as error:
        return point.name, str(error)
    return point.name, run if is_mean_of(run, point) else _NO_MEAN


def _move(
    names: tuple[str, str],
    same_settings: bool,
    is_read: bool,
    sides: Sequence[_Side],
    convention: Convention,
    seed: int,
) -> Move:
    before, after = (side.points[name] for side, name in zip(sides, names, strict=True))
    change = difference(after.accuracy, after.accuracy_ci, before.accuracy, before.accuracy_ci)
    unpaired: str | None = "on neither front, and there are many: their outcome tables are not read"
    if is_read:
        try:
            change, unpaired = paired_change(sides[1].run(names[1]), sides[0].run(names[0]), seed), None
        except DpnError as error:
            unpaired = str(error)
    costs = flops_ratio(before, convention), flops_ratio(after, convention)
    n = min(before.n, after.n)
    return Move(names, same_settings, (before.accuracy, after.accuracy), costs, change, unpaired, n)


def _front_change(
    sides: Sequence[_Side], on_front: Sequence[list[str]], convention: Convention, seed: int
) -> FrontChange:
    fronts = [[side.points[name] for name in names] for side, names in zip(sides, on_front, strict=True)]
    volumes = hypervolume(fronts[0], convention=convention), hypervolume(fronts[1], convention=convention)
    names = on_front[0], on_front[1]
    among = _num_measured(sides[0], convention), _num_measured(sides[1], convention)
    try:
        runs = [_volume_run(side, front, convention) for side, front in zip(sides, fronts, strict=True)]
        change = paired_change(runs[1], runs[0], seed)
    except DpnError as error:
        return FrontChange(volumes, names, among, None, str(error), 0)
    n = sum(map(len, runs[0].benchmarks.values()))
    return FrontChange(volumes, names, among, change, None, n)


def _num_measured(side: _Side, convention: Convention) -> int:
    return sum(is_measured(point, convention) for point in side.points.values())


def _volume_run(side: _Side, front: Sequence[Point], convention: Convention) -> ScoredRun:
    """What every question adds to the hypervolume, as if it were a score."""
    shares = front_shares(front, convention)
    if not shares:
        raise DpnError("no point is cheaper than the dense model")
    return mixed("front", [side.run(name) for name in shares], list(shares.values()))
