"""Wilson's interval of a proportion."""

from __future__ import annotations

import math

_Z_95 = 1.959963984540054


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion; (0, 1) when nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    low, high = centre - half, centre + half
    return 0.0 if successes == 0 else low, 1.0 if successes == n else high
