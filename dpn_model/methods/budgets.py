"""A method at a given cost: the value of its `budget` setting at which it runs with so many visual tokens. No torch.

The budget is the depth-weighted share of visual tokens, sum over layers of those that run there over layers times the
base's own (specs: "average retained tokens"), since FLOPs conventions differ and this does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dpn_model.cost.bill import ModelShape
from dpn_model.methods.settings import MethodSettings
from dpn_model.methods.spec import MethodSpec, image_rows

_HALVINGS = 40
#: a setting in steps may miss the budget by this part of it
_MISSES = 0.25


def share_of(spec: MethodSpec, settings: MethodSettings, shape: ModelShape) -> float:
    """Depth-weighted share of visual tokens that settings run with, the mean of the cheapest and the dearest route."""
    shares = [ledger.mean_visual_tokens() / ledger.packed.visual for ledger in spec.plan(settings, shape, 0)]
    return sum(shares) / len(shares)


def at_budget(spec: MethodSpec, settings: MethodSettings, shape: ModelShape, share: float) -> MethodSettings:
    """Settings whose share is nearest to `share`, everything but the budget setting as given.

    What moves in steps (a kernel, a whole number of rows) may miss it by a quarter, but nothing goes below its least.

    Args:
        spec: of the method.
        settings: its other settings.
        shape: of the base.
        share: above 0 and up to 1.

    Raises:
        ValueError: a method whose cost nothing turns, or a share out of its reach, with what it reaches.
    """
    turned = spec.budget
    if turned is None:
        raise ValueError(f"budget = {share:g}: method {spec.name} has no setting that turns its cost")

    def share_at(value: Any) -> float:
        return share_of(spec, replace(settings, **{turned.setting: value}), shape)

    if turned.choices:
        shares = _shares(turned.choices, share_at)
        low, high = min(shares.values()), max(shares.values())
        best = min(shares, key=lambda value: abs(shares[value] - share))
    else:
        assert turned.low is not None
        assert turned.high is not None
        below, above = turned.low, turned.high
        low, high = share_at(below), share_at(above)
        for _ in range(_HALVINGS):
            middle = (below + above) / 2
            below, above = (middle, above) if share_at(middle) < share else (below, middle)
        best = min((below, above), key=lambda value: abs(share_at(value) - share))
        best = _short(best, share_at)
    nearest, half_a_token = share_at(best), 0.5 / math.prod(image_rows(shape))
    is_beyond = not turned.choices and not low - half_a_token <= share <= high + half_a_token
    is_nothing = nearest == 1 and share < 1 - half_a_token  # keeping everything is no way of keeping most
    if is_beyond or is_nothing or abs(nearest - share) > _MISSES * share:
        raise ValueError(
            f"budget = {share:g} is out of reach of method {spec.name}: its {turned.setting} reaches {low:.3f} to "
            f"{high:.3f} of the visual tokens, weighted by depth, {nearest:.3f} being the nearest"
        )
    found: MethodSettings = replace(settings, **{turned.setting: best})
    return found


def _shares(choices: Sequence[Any], share_at: Callable[[Any], float]) -> dict[Any, float]:
    """Share by choice, of those that fit the base: a kernel may divide one base's grid and not another's."""
    shares: dict[Any, float] = {}
    refusal = ValueError("no choices")
    for value in choices:
        try:
            shares[value] = share_at(value)
        except ValueError as error:
            refusal = error
    if not shares:
        raise refusal
    return shares


def _short(value: float, share_at: Callable[[float], float]) -> float:
    """The number with the fewest digits that comes to the same."""
    wanted, near = share_at(value), (math.floor, round, math.ceil)
    shorter = (turn(value * 10**digits) / 10**digits for digits in range(2, 7) for turn in near)
    return next((short for short in shorter if short and share_at(short) == wanted), value)
