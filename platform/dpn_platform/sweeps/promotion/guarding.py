"""Guards: benchmarks that a new holder must not lose on, by more than a margin.

All of them have to pass, so none needs a correction for their number. Where a benchmark's headline is no mean over
questions (F1, points per picture), its share of right answers is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dpn_platform.benchmarks.statistics.paired_pictures import picture_change
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.common_outcomes import CommonOutcomes
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.sweeps.promotion.decision import Candidate, GuardResult
from dpn_platform.sweeps.promotion.telling import points


@dataclass(frozen=True)
class Guards:
    """Benchmarks, and the loss in points that a 95% interval has to exclude."""

    benchmarks: tuple[str, ...] = ()
    margin: float = 1.0


class Readable(Protocol):
    """The part of a study's material that guards read."""

    @property
    def points(self) -> tuple[Point, ...]:
        """Of the study."""

    @property
    def convention(self) -> Convention:
        """Of the costs."""

    @property
    def read(self) -> Callable[[Sequence[Point], Convention, Sequence[str], str], CommonOutcomes]:
        """Outcome tables."""


def first_to_pass(
    material: Readable, guards: Guards, holder: Point, proven: Sequence[Candidate]
) -> tuple[Candidate | None, tuple[GuardResult, ...], str]:
    """The first candidate that passes every guard; all results up to it; and what has stopped the first one."""
    by_name = {point.name: point for point in material.points}
    results: list[GuardResult] = []
    for candidate in proven:
        of_candidate = [_result(material, guards, name, holder, by_name[candidate.name]) for name in guards.benchmarks]
        results += of_candidate
        if all(one.passed for one in of_candidate):
            return candidate, tuple(results), ""
    return None, tuple(results), _told(results, holder.name, guards.margin)


def _result(material: Readable, guards: Guards, benchmark: str, holder: Point, point: Point) -> GuardResult:
    name = point.name
    blank = GuardResult(benchmark=benchmark, candidate=name, passed=False)
    try:
        outcomes = material.read([holder, point], material.convention, (benchmark,), holder.name)
    except DpnError as error:
        return blank.model_copy(update={"note": str(error)})
    if name not in outcomes.of:
        return blank.model_copy(update={"note": f"{name}: {outcomes.left_out[name]}"})
    change_C = outcomes.of[name].score_C - outcomes.of[holder.name].score_C
    change = picture_change(outcomes.pictures.weight_C * change_C)
    return GuardResult(
        benchmark=benchmark,
        candidate=name,
        passed=100 * change.ci95[0] >= -guards.margin,
        n=outcomes.pictures.num_questions,
        change=change.value,
        ci=change.ci95,
    )


def _told(results: Sequence[GuardResult], holder: str, margin: float) -> str:
    failed = next(one for one in results if not one.passed)
    start = f"{failed.candidate} is proven to beat {holder}, but guard {failed.benchmark}"
    if failed.ci is None:
        return f"{start} has no result: {failed.note}"
    low, high = failed.ci
    return (
        f"{start} may lose more than {margin:g} points: {points(failed.change or 0.0)}, 95% interval {points(low)} to "
        f"{points(high)} on {failed.n:,} questions"
    )
