"""The budget dial at work in a forward pass: one sample, one site, the router's logits and a bias -> one expert.

Shape letters: E experts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from dpn_model.cost.flops import Convention, DecoderShape
from dpn_model.cost.ledger import sample_cost
from dpn_model.methods.dpn.budget import Standing, course, tie_delay
from dpn_model.methods.dpn.routing_loss import compression_rates
from dpn_model.methods.pooling.grid import pooled_size
from dpn_model.methods.settings import Kernel

Grids = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Passage:
    """What a sample's decisions at earlier sites leave for the next one.

    Attributes:
        standing: see there.
        stages: visual tokens before every site so far, this one included.
    """

    standing: Standing
    stages: tuple[int, ...]


@dataclass(frozen=True)
class Routes:
    """All that can become of a sample at the sites of a model.

    Attributes:
        shape, convention: of the cost.
        layers: of the sites.
        kernels: per site, (height, width) of every expert.
        rounding, min_tokens: of `PoolingSettings`.
    """

    shape: DecoderShape
    convention: Convention
    layers: tuple[int, ...]
    kernels: tuple[tuple[Kernel, ...], ...]
    rounding: str
    min_tokens: int


@dataclass(frozen=True)
class Threshold:
    """The dial's bias, not 0, at one site (0-based)."""

    bias: float
    site: int
    routes: Routes

    def choose(
        self, logits_E: Sequence[float], passage: Passage | None, grids: Grids, text_tokens: int, draw: float
    ) -> tuple[int, Passage]:
        """An expert, and what the next site has to know.

        Args:
            logits_E: the router's.
            passage: from the site before; None at the first.
            grids: of the sample's images, as they are now.
            text_tokens: of the sample.
            draw: the sample's own, in [0, 1).

        Raises:
            ValueError: no expert of this site leads to a whole route.
        """
        if passage is None:
            passage = Passage(Standing(), ())
        stages = (*passage.stages, sum(height * width for height, width in grids))
        sign = 1 if self.bias > 0 else -1
        least_E = least_costs(self.routes, sign, stages, grids, text_tokens)
        rates_E = [sign * rate for rate in compression_rates(self.routes.kernels[self.site], "log2_area")]
        if min(least_E) == math.inf:
            raise ValueError(f"no route fits images of {grids} visual tokens; add 1x1, or use smaller kernels")
        delay = tie_delay(self.site, len(self.routes.layers), sign, draw)
        steps = course(logits_E, rates_E, least_E, passage.standing, delay)
        *_, (expert, standing) = takewhile(lambda step: step[1].since < abs(self.bias), steps)
        return expert, Passage(standing, stages)


@lru_cache(maxsize=65536)
def least_costs(
    routes: Routes, sign: int, stages: tuple[int, ...], grids: Grids, text_tokens: int
) -> tuple[float, ...]:
    """float[E]: smallest FLOPs ratio (times `sign`) of the routes through every expert of a site; inf: none.

    Args:
        routes: the model's.
        sign: 1, or -1 for the largest ratio, negative.
        stages: visual tokens before every site so far; their number says which site it is.
        grids: of the sample's images before this site.
        text_tokens: of the sample.
    """
    site = len(stages) - 1
    found = []
    for kernel in routes.kernels[site]:
        after = tuple(pooled_size(*grid, kernel, routes.rounding) for grid in grids)
        left = [height * width for height, width in after]
        if min(left) < (1 if kernel == (1, 1) else routes.min_tokens):
            found.append(math.inf)
            continue
        behind = (*stages, sum(left))
        if site + 1 < len(routes.layers):
            found.append(min(least_costs(routes, sign, behind, after, text_tokens)))
        else:
            cost = sample_cost(routes.shape, routes.layers, behind, text_tokens, routes.convention)
            found.append(sign * cost.ratio)
    return tuple(found)
