"""VisPCO's schedule: how many tokens of a picture each layer runs, from a layer k and a ratio r, or k and a budget.

Layer i, counted from 0, runs the share r_i = 1 + (r - 1) * sigmoid(10 * (i - k)) of a picture's tokens: a soft step at
layer k. Layer 0 runs all of them: what ranks tokens is the attention of a finished layer. No torch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate

#: of the step, per layer
STEEPNESS = 10.0
#: sigmoid of this and beyond is 0 or 1 in float64, and its exponential still a number
_FAR = 700.0
_HALVINGS = 60
#: a share times a number of tokens may miss a whole number by so much
_ROUNDING = 1e-9


def steps(layer: float, num_layers: int) -> tuple[float, ...]:
    """sigmoid(10 * (i - k)) of the layers 1, 2 ... behind the first."""
    return tuple(
        1 / (1 + math.exp(min(_FAR, max(-_FAR, STEEPNESS * (layer - number))))) for number in range(1, num_layers)
    )


@lru_cache(maxsize=65536)
def predicted_counts(layer: float, ratio: float, num_layers: int, tokens: int) -> tuple[int, ...]:
    """Tokens of a picture of `tokens` in every layer, one at least, as k and r say."""
    behind = (round(tokens * (1 + (ratio - 1) * step)) for step in steps(layer, num_layers))
    return (tokens, *accumulate((max(1, count) for count in behind), min))


def budget_tokens(budget: float, num_layers: int, tokens: int) -> int:
    """What a budget allows all layers together: the whole number next to it that some schedule can run."""
    return max(tokens + num_layers - 1, min(tokens * num_layers, round(budget * tokens * num_layers)))


@lru_cache(maxsize=65536)
def fitted_counts(layer: float, budget: float, num_layers: int, tokens: int) -> tuple[int, ...]:
    """The same with the r that makes all layers together run exactly what the budget allows.

    Where even one token behind k would be too many, the step moves forward to the layer from which on it is not.
    Counts are rounded down, and what is missing then goes to the first of the layers that do not run everything.

    Args:
        layer: k.
        budget: share of the tokens, mean over layers.
        num_layers: of the decoder.
        tokens: of the picture.
    """
    total = budget_tokens(budget, num_layers, tokens)
    spared = tokens * num_layers - total
    if not spared:
        return (tokens,) * num_layers
    shares = steps(layer, num_layers)
    if sum(shares) * (tokens - 1) < spared:
        shares = steps(_latest_step(spared / (tokens - 1), layer, num_layers), num_layers)
    dropped = spared / sum(shares)
    counts = [max(1, math.floor(tokens - dropped * step + _ROUNDING)) for step in shares]
    missing = total - tokens - sum(counts)
    for place, count in enumerate(counts):
        if missing and count < tokens:
            counts[place] += 1
            missing -= 1
    return (tokens, *counts)


def _latest_step(wanted: float, layer: float, num_layers: int) -> float:
    """The k in front of `layer` whose steps add up to `wanted`."""
    early, late = -_FAR, layer
    for _ in range(_HALVINGS):
        middle = (early + late) / 2
        early, late = (middle, late) if sum(steps(middle, num_layers)) >= wanted else (early, middle)
    return early


def flattest_counts(budget: float, num_layers: int, tokens: int) -> tuple[int, ...]:
    """Of all that cost the budget, what is cheapest where cost grows faster than tokens: a drop behind layer 0."""
    if num_layers == 1:
        return (tokens,)
    each, more = divmod(budget_tokens(budget, num_layers, tokens) - tokens, num_layers - 1)
    return (tokens, *[each + 1] * more, *[each] * (num_layers - 1 - more))


def steepest_counts(budget: float, num_layers: int, tokens: int) -> tuple[int, ...]:
    """And what is dearest: everything for as long as it lasts, then one token."""
    if tokens == 1:
        return (1,) * num_layers
    whole, more = divmod(budget_tokens(budget, num_layers, tokens) - num_layers, tokens - 1)
    behind = [1 + more] * (num_layers > whole)
    return (*[tokens] * whole, *behind, *[1] * (num_layers - whole - len(behind)))
