"""How a dimension of a search is written.

Of a number, a list is the range [low, high]; of anything else, and of whole numbers, the values to choose from.
`{low, high, log, step, levels}` says more: `log` the scale, `step` a raster from low on (whole numbers have 1),
`levels` into how many values a grid divides the range; `{choices: [...]}` lists numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dpn_model.methods.spec import Dimension

_MORE = ("low", "high", "log", "step", "levels")


def filled(known: Dimension, given: Any, where: str) -> Dimension:
    """A dimension with what a recipe says of it."""
    if isinstance(given, Mapping):
        if set(given) == {"choices"}:
            known, given = replace(known, low=None, high=None), given["choices"]
        elif {"low", "high"} <= set(given) <= set(_MORE):
            return _range(replace(known, choices=()), where, **given)
        else:
            raise ValueError(
                f"{where}: allowed: {{{', '.join(_MORE)}}}, of which low and high are needed, or {{choices}}"
            )
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"{where}: must be a list, [low, high] of a number or the values to choose from")
    if known.low is None:
        return replace(known, choices=tuple(tuple(one) if isinstance(one, list) else one for one in given))
    if len(given) != 2:
        raise ValueError(f"{where}: must be [low, high] with 0 <= low <= high")
    return _range(known, where, given[0], given[1], known.is_log)


def _range(
    known: Dimension, where: str, low: Any, high: Any, log: Any = False, step: Any = None, levels: Any = None
) -> Dimension:
    numbers = [one for one in (low, high, step, levels) if one is not None]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers) or not isinstance(log, bool):
        raise ValueError(f"{where}: low, high, step and levels are numbers, log is true or false")
    if not 0 <= low <= high:
        raise ValueError(f"{where}: must be [low, high] with 0 <= low <= high")
    if log and low == 0:
        raise ValueError(f"{where}: low must be above 0: the scale is logarithmic")
    if (step is not None and (step <= 0 or log)) or (levels is not None and (levels < 2 or levels != int(levels))):
        raise ValueError(f"{where}: step must be above 0 and goes with no log; levels must be a whole number from 2")
    is_whole = known.low is None and all(isinstance(one, int) for one in (low, high, step or 1))
    return replace(
        known,
        low=low if is_whole else float(low),
        high=high if is_whole else float(high),
        is_log=log,
        step=step if step is not None or not is_whole or log else 1,
        levels=None if levels is None else int(levels),
        is_whole=is_whole,
    )


def ends(dimension: Dimension) -> tuple[Any, ...]:
    """All choices, or both ends of a range."""
    return dimension.choices or (dimension.low, dimension.high)


def grid_values(name: str, one: Dimension) -> list[Any]:
    """What a grid takes of a dimension."""
    if one.low is None or one.high is None:
        return [list(choice) if isinstance(choice, tuple) else choice for choice in one.choices]
    if one.levels is not None and one.low < one.high:
        parts = [place / (one.levels - 1) for place in range(one.levels)]
        rise, factor = one.high - one.low, one.high / one.low if one.is_log else 1.0
        found = [one.low * factor**part if one.is_log else one.low + rise * part for part in parts]
        return list(dict.fromkeys(round(value) if one.is_whole else float(f"{value:.6g}") for value in found))
    if one.step is not None:
        return [one.low + place * one.step for place in range(int((one.high - one.low) / one.step + 1e-9) + 1)]
    if one.low == one.high:
        return [one.low]
    raise ValueError(f"sweep.search.{name}: into how many values a grid divides this range, levels or step must say")
