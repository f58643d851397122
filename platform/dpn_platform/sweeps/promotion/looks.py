"""How much error each look may spend, and which of a night's candidates it proves.

The same questions are looked at every night, for nobody knows how many nights: look k spends alpha * 6 / (pi^2 k^2),
together alpha however many there are. A look counts whatever it shows. Within a look Holm's correction over all of the
night's candidates pays for choosing the best of them. It costs little beside the distribution of the largest of
correlated differences (0.1 standard errors for 8 candidates), and holds at levels that no bootstrap resolves.

The looks are those at one holder: when it is replaced, the count begins anew. So any one holder is replaced by a point
that is no better with probability alpha at most.

The first holder is itself the best of many by these questions, and looks better on them than it is. By how much is
measured when it is named (`best_of_many`) and taken off it in every test; without that, gains of two points stay
unseen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpn_platform.benchmarks.statistics.paired import holm
from dpn_platform.benchmarks.statistics.paired_pictures import PictureChange


def alpha_of_look(alpha: float, look: int) -> float:
    """What a look may spend; the first is 1."""
    return alpha * 6 / (math.pi * look) ** 2


def corrected(changes: Sequence[PictureChange]) -> list[float]:
    """The p-value of every candidate's gain over the holder, corrected for all candidates of the look."""
    return holm([change.p_value for change in changes])
