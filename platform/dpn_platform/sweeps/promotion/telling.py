"""The one sentence that says why an alias moved or stayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpn_platform.sweeps.promotion.decision import Candidate


def points(fraction: float) -> str:
    """`+2.10`: percentage points."""
    return f"{100 * fraction:+.2f}"


def told_gain(best: Candidate, holder: str, look: Mapping[str, Any], price: float, *, is_late: bool) -> str:
    """Why the alias moves."""
    low, high = best.ci or (0.0, 0.0)
    what = "points" if price == 0 else f"points net of {price:.3g} times its FLOPs ratio"
    gain = f"{best.name} is {points(best.gain or 0.0)} {what} above {holder} (95%: {points(low)} to {points(high)})"
    if is_late:
        return f"{gain}, as an earlier look has proven, and now passes the guards"
    return f"{gain}, {_level(best, look)}"


def told_kept(holder: str, candidates: Sequence[Candidate], look: Mapping[str, Any]) -> str:
    """Why it stays, without any proven candidate."""
    compared = [one for one in candidates if one.note is None]
    if not compared:
        first = candidates[0]
        return f"none of {len(candidates)} new points can be compared with {holder}; {first.name}: {first.note}"
    best = min(compared, key=lambda one: one.p_value or 0.0)
    return (
        f"none of {len(compared)} new points is proven to beat {holder}; the nearest, {best.name}, is at "
        f"{points(best.gain or 0.0)} points, {_level(best, look)}"
    )


def _level(best: Candidate, look: Mapping[str, Any]) -> str:
    flattery = look["flattery"]
    counted = f", counting that being chosen here flatters the holder by {100 * flattery:.2f}" if flattery > 0 else ""
    return f"p = {best.p_holm:.2g} after Holm where look {look['look']} allows {look['alpha_spent']:.2g}{counted}"
