"""What two studies come to, in sentences: nothing is claimed that lies inside an interval."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.reports.look.labels import signed_points
from dpn_platform.reports.study.changes import FrontChange, Move

_MOST_NAMED = 8
#: costs that differ by less are one: equal counts, other rounding
_SAME_COST = 1e-6


def conclusion(first: str, second: str, moves: Sequence[Move], front: FrontChange) -> list[str]:
    """Sentences: the fronts, then the points that both studies have.

    Args:
        first, second: names of the studies.
        moves: of the points.
        front: what became of the front.
    """
    return [_front_sentence(first, second, front), *_luck(first, second, front), *_moves_sentences(second, moves)]


def _front_sentence(first: str, second: str, front: FrontChange) -> str:
    before, after = front.hypervolumes
    told = f"hypervolume {before:.4f} in {first}, {after:.4f} in {second}"
    if front.change is None:
        return f"Whether the fronts differ is not known: {told}, without an interval ({front.unknown})."
    low, high = front.change.low, front.change.high
    told += f", difference {front.change.value:+.4f}, paired 95% interval {low:+.4f} to {high:+.4f}, n = {front.n:,}"
    if not front.change.is_resolved:
        return f"The fronts are not told apart: {told}."
    return f"The front of {second if low > 0 else first} reaches further: {told}."


def _luck(first: str, second: str, front: FrontChange) -> list[str]:
    """The interval draws questions, not trials: that more of these were tried is no merit of what was changed."""
    few, many = front.found_among
    if few == many:
        return []
    told = f"found among {few} points in {first} and among {many} in {second}"
    return [f"The fronts were {told}: of more points the front is finer and luckier, whatever else differs."]


def _moves_sentences(second: str, moves: Sequence[Move]) -> list[str]:
    same = [one for one in moves if one.same_settings]
    if not same:
        return ["No point with the same settings is in both studies."]
    up = [one for one in same if one.change.low > 0]
    down = [one for one in same if one.change.high < 0]
    sentence = (
        f"Of {len(same)} points with the same settings, {len(up)} are more accurate in {second}{_named(up)}, "
        f"{len(down)} less{_named(down)}; {len(same) - len(up) - len(down)} are not told apart."
    )
    found = [sentence]
    if len(same) > 1:
        found.append("Each interval is for itself: of many, one in twenty leaves out zero by chance.")
    moved = [one for one in same if abs(one.cost[1] - one.cost[0]) > _SAME_COST]
    if moved:
        largest = max(moved, key=lambda one: abs(one.cost[1] - one.cost[0]))
        costs = f"{largest.cost[0]:.3f} to {largest.cost[1]:.3f}"
        found.append(f"{len(moved)} of them have another cost, most of all {largest.names[1]}: {costs}.")
    unpaired = [one for one in same if one.unpaired is not None]
    if unpaired:
        found.append(
            f"{len(unpaired)} of these differences are not paired, so their intervals are wider than need be "
            f"({unpaired[0].unpaired})."
        )
    return found


def _named(moves: Sequence[Move]) -> str:
    if not moves:
        return ""
    shown = [f"{one.names[1]} {signed_points(one.change.value)}" for one in moves[:_MOST_NAMED]]
    return f" ({', '.join(shown)}{', ...' if len(moves) > _MOST_NAMED else ''})"
