"""How many questions a difference needs to be told from zero, and which difference these questions can tell."""

from __future__ import annotations

import math
from statistics import NormalDist

POWER, LEVEL = 0.8, 0.05
#: standard errors that a difference must span: two-sided level plus power, 1.960 + 0.842
_ERRORS = NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(POWER)


def questions_needed(difference: float, standard_error: float, n: int) -> int | None:
    """Questions at which a true difference of this size is resolved with `POWER`; None for no difference.

    Args:
        difference: of two means over questions.
        standard_error: its own at n questions. Pictures are taken to have as many questions each as they have now.
        n: questions it was measured on.
    """
    if difference == 0:
        return None
    return max(1, math.ceil(n * (_ERRORS * standard_error / difference) ** 2 - 1e-9))


def resolvable(standard_error: float) -> float:
    """The smallest true difference that is resolved with `POWER` at this standard error."""
    return _ERRORS * standard_error
