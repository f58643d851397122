"""What many points answered to the same questions, as arrays: every picture's sum of scores and of costs.

Shape letters: P points, C pictures.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpn_platform.benchmarks.outcomes import read_columns
from dpn_platform.benchmarks.statistics.pictures import Floats, Integers, Pictures
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.points import Convention, Point

_IDENTITY = ("place", "question_id", "gold")
_SAME = 1e-6


class Answered(NamedTuple):
    """One point: sums over each picture's questions; costs NaN where they were not counted."""

    score_C: Floats
    macs_C: Floats
    dense_C: Floats


class _Part(NamedTuple):
    """One point on one benchmark."""

    digest: str
    size_C: Floats
    answered: Answered

    @property
    def accuracy(self) -> float:
        return float(self.answered.score_C.sum() / self.size_C.sum())


@dataclass(frozen=True)
class CommonOutcomes:
    """Points that answered the same questions.

    Attributes:
        benchmarks: whose mean is the accuracy.
        of: point -> what it answered.
        left_out: point -> why it is not among them.
    """

    pictures: Pictures
    benchmarks: tuple[str, ...]
    of: Mapping[str, Answered]
    left_out: Mapping[str, str]

    def accuracy(self, name: str) -> float:
        """Of one point, a fraction."""
        return float(self.pictures.means(self.of[name].score_C))


def common_outcomes(
    points: Sequence[Point], convention: Convention, benchmarks: Sequence[str] = (), like: str | None = None
) -> CommonOutcomes:
    """Reads the outcome tables of points; each one's checkpoint as it is, what a headline counts.

    Args:
        points: of one study. Those without a table, or on other questions than most, are left out and named.
        convention: of the costs.
        benchmarks: that the accuracy is the mean of. By default those that give the points' own accuracy: all that were
            evaluated or one of them; a point whose accuracy they do not give is left out.
        like: name of the point whose questions count, instead of those of most.

    Raises:
        DpnError: no point is left, or `like` is not.
    """
    read: dict[str, dict[str, _Part]] = {}
    left_out: dict[str, str] = {}
    for point in points:
        try:
            read[point.name] = _read(point, convention)
        except DpnError as error:
            left_out[point.name] = str(error)
    wanted = tuple(benchmarks) or _benchmarks_of_accuracy(points, read)
    for point in points:
        if point.name in read and (why := _misfit(point, read[point.name], wanted, is_axis=not benchmarks)):
            left_out[point.name] = why
    kept = {name: [parts[one] for one in wanted] for name, parts in read.items() if name not in left_out}
    if not kept or (like is not None and like not in kept):
        told = f"{like}: {left_out.get(like, 'no such point')}" if like else "; ".join(map(": ".join, left_out.items()))
        raise DpnError(f"no outcomes to compare: {told or 'there are no points'}")
    digests = {name: " ".join(part.digest for part in parts) for name, parts in kept.items()}
    chosen = digests[like] if like is not None else Counter(digests.values()).most_common(1)[0][0]
    first = next(name for name in kept if digests[name] == chosen)
    for name in [name for name in kept if digests[name] != chosen]:
        left_out[name] = f"answered other questions of {' and '.join(wanted)} than {first}"
        del kept[name]
    return CommonOutcomes(
        _pictures(chosen, kept[first]), wanted, {name: _together(parts) for name, parts in kept.items()}, left_out
    )


def _read(point: Point, convention: Convention) -> dict[str, _Part]:
    """Benchmark -> what the point answered of it.

    Raises:
        DpnError: no table, none of it scored, or a question twice.
    """
    if not point.outcomes_uri:
        raise DpnError("has no outcome table")
    costs = (f"{convention}_macs", f"{convention}_dense")
    columns = ("benchmark", "variant", "in_headline", "score", "image_sha", "unit", *_IDENTITY, *costs)
    table = read_columns(point.outcomes_uri, columns)
    lacking = [name for name in columns if name not in table.column_names]
    for name in lacking:
        table = table.append_column(name, pa.nulls(len(table)))
    counts = pc.and_(pc.is_valid(table["score"]), pc.fill_null(table["in_headline"].cast(pa.bool_()), True))
    own = pc.equal(pc.fill_null(table["variant"].cast(pa.string()), ""), "")
    table = table.filter(pc.and_(counts, own))
    if not len(table):
        raise DpnError("none of its answers was scored")
    table = table.sort_by([("benchmark", "ascending"), ("place", "ascending"), ("question_id", "ascending")])
    names = table["benchmark"].to_pylist()
    found = {}
    for name in dict.fromkeys(names):
        rows = table.slice(names.index(name), names.count(name))
        found[name] = _part(rows, costs)
    return found


def _part(rows: pa.Table, costs: tuple[str, str]) -> _Part:
    """The rows of one benchmark, in the order of its questions."""
    identity = list(zip(*(rows[name].to_pylist() for name in _IDENTITY), strict=True))
    if len(set(identity)) < len(identity):
        raise DpnError(f"has outcomes of one question twice ({Counter(identity).most_common(1)[0][0][1]})")
    pictures = zip(rows["image_sha"].to_pylist(), rows["unit"].to_pylist(), identity, strict=True)
    named = [str(sha or unit or one) for sha, unit, one in pictures]
    digest = hashlib.sha256(repr((identity, named)).encode()).hexdigest()
    _, picture_N = np.unique(named, return_inverse=True)
    score_C, macs_C, dense_C = (
        np.bincount(picture_N, _numbers(rows[name])).astype(np.float64) for name in ("score", *costs)
    )
    return _Part(digest, np.bincount(picture_N).astype(np.float64), Answered(score_C, macs_C, dense_C))


def _numbers(column: Any) -> Floats:
    found: Floats = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
    return found


def _benchmarks_of_accuracy(points: Sequence[Point], read: Mapping[str, Mapping[str, _Part]]) -> tuple[str, ...]:
    """Of all benchmarks that were evaluated and each by itself: those whose mean is most points' accuracy."""
    every = tuple(dict.fromkeys(name for parts in read.values() for name in parts))
    options = [every, *((name,) for name in every)]

    def fitting(option: tuple[str, ...]) -> int:
        return sum(
            point.name in read and not _misfit(point, read[point.name], option, is_axis=True) for point in points
        )

    return max(options, key=fitting)


def _misfit(point: Point, parts: Mapping[str, _Part], wanted: Sequence[str], *, is_axis: bool) -> str | None:
    """Why a point's outcomes cannot be used; None where they can."""
    if lacking := [name for name in wanted if name not in parts]:
        return f"has no outcomes of {', '.join(lacking)}"
    mean = np.mean([parts[name].accuracy for name in wanted])
    if is_axis and not abs(mean - point.accuracy) < _SAME:
        return f"its accuracy is no mean over the questions of {' and '.join(wanted)}"
    return None


def _pictures(digest: str, parts: Sequence[_Part]) -> Pictures:
    places: Integers = np.repeat(np.arange(len(parts)), [len(part.size_C) for part in parts])
    return Pictures(digest, np.concatenate([part.size_C for part in parts]), places)


def _together(parts: Sequence[_Part]) -> Answered:
    return Answered(*(np.concatenate(columns) for columns in zip(*(part.answered for part in parts), strict=True)))
