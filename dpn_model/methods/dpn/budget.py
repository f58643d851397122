"""The budget dial's arithmetic: a threshold on the router's own logits, and the mean cost that every threshold has.

A bias of β * log2(kernel area) on the logits moves samples to cheaper kernels (β > 0) or dearer ones (β < 0), the least
reluctant first; at β = 0 every sample takes the router's own route. A sample's course says at which |β| it leaves an
expert and for which: from it follows what all thresholds cost, exactly.

Another expert at one site shows later routers another picture, and these may answer by compressing less than they would
have. So what a sample leaves is a bound: behind the new expert only those routes stay open which are not dearer than
anything the old one led to (β < 0: not cheaper). Thus a sample's cost never rises where a budget falls.

Shape letters: N samples, S sites, E experts of a site, P routes up to a site.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from dpn_model.cost.flops import Convention

#: a β no router argues with
EXTREME_BIAS = 1e6
#: neighbouring rungs of a dial differ by at least this mean ratio, unless they are one sample's step apart
STEP = 0.001
#: of β, for samples that a router does not tell apart: far above the differences that another batch makes to float32
#: logits, far below those between samples
TIE_WIDTH = 1e-5
#: a request this near to the router's own mean ratio is that, if the calibration cannot tell them apart either
MAX_MARGIN = 0.01
#: a request may exceed the extremes by this much: printed extremes are rounded
TOLERANCE = 1e-4
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Dial:
    """A calibrated dial and where it stands.

    Attributes:
        convention: of the FLOPs ratios (`dpn_model.cost.flops`).
        biases: β of every rung, ascending; 0 among them.
        ratios: mean FLOPs ratio of the calibration samples at every rung.
        margin: standard error of their mean on the router's own routes, at most `MAX_MARGIN`.
        flops_ratio: the requested ratio; None: the router decides alone.
    """

    convention: Convention
    biases: tuple[float, ...]
    ratios: tuple[float, ...]
    margin: float
    flops_ratio: float | None = None

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest mean ratio."""
        return min(self.ratios), max(self.ratios)

    @property
    def router_ratio(self) -> float:
        """Mean ratio of the router's own routes."""
        return self.ratios[self.biases.index(0.0)]

    def at(self, flops_ratio: float | None) -> Dial:
        """The dial turned to a ratio.

        Raises:
            ValueError: outside what is reachable.
        """
        low, high = self.reachable
        if flops_ratio is not None and not low - TOLERANCE <= flops_ratio <= high + TOLERANCE:
            raise ValueError(
                f"flops_ratio = {flops_ratio} ({self.convention}) cannot be reached; allowed: {low:.4f} to {high:.4f}"
            )
        return replace(self, flops_ratio=flops_ratio)

    def bias(self) -> float:
        """β of the request: 0 within `margin` of the router's own ratio, else that of the rung nearest to it."""
        if self.flops_ratio is None or abs(self.flops_ratio - self.router_ratio) <= self.margin:
            return 0.0
        nearest = np.abs(np.asarray(self.ratios) - self.flops_ratio).argmin()
        return self.biases[int(nearest)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "convention": self.convention,
            "biases": list(self.biases),
            "ratios": list(self.ratios),
            "margin": self.margin,
            "flops_ratio": self.flops_ratio,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Dial:
        """Inverse of `to_dict`.

        Raises:
            ValueError: a dial that this version cannot turn.
        """
        if set(data) != {"convention", "biases", "ratios", "margin", "flops_ratio"}:
            raise ValueError(
                f"dial in config.json has {', '.join(data)}: an earlier version made it, and its budgets took other "
                'routes; write "dial": null there and calibrate again (dpn_model.calibrate)'
            )
        ladder = tuple(data["biases"]), tuple(data["ratios"])
        return cls(data["convention"], *ladder, data["margin"], data["flops_ratio"])


@dataclass(frozen=True)
class Standing:
    """How a sample came to a site, under a bias.

    Attributes:
        since: |β| from which on it comes here.
        bound: the most its route may cost; below a β of 0 the least, as a negative number.
    """

    since: float = 0.0
    bound: float = math.inf


def course(
    logits_E: Sequence[float], rates_E: Sequence[float], least_E: Sequence[float], came: Standing, delay: float
) -> Iterator[tuple[int, Standing]]:
    """The experts that a sample takes at a site as |β| grows, each with how it comes to the site behind.

    Costs and rates are taken as they are for β > 0, and with their sign turned for β < 0.

    Args:
        logits_E: the router's.
        rates_E: log2 of the kernels' areas.
        least_E: the smallest cost of a whole route through each expert; infinite where there is none.
        came: how the sample comes here.
        delay: taken from |β| (`tie_delay`).
    """
    since, bound = came.since, came.bound
    feasible = [expert for expert, least in enumerate(least_E) if least <= bound and least < math.inf]
    at = max(0.0, since - delay)
    expert = max(feasible, key=lambda e: logits_E[e] + at * rates_E[e])
    while True:
        yield expert, Standing(since, bound)
        bound = min(bound, least_E[expert])
        ahead = [e for e in feasible if rates_E[e] > rates_E[expert] and least_E[e] <= bound]
        if not ahead:
            return
        meets = {e: (logits_E[expert] - logits_E[e]) / (rates_E[e] - rates_E[expert]) + delay for e in ahead}
        expert = min(ahead, key=lambda e: (meets[e], -rates_E[e]))
        since = max(since, meets[expert])


def tie_delay(site: int, num_sites: int, sign: int, draw: float) -> float:
    """What a site (0-based) takes from |β|: samples move one by one, at later sites first (β < 0: at earlier ones).

    Only samples that the router does not tell apart notice. `draw` in [0, 1) is the sample's own.
    """
    return TIE_WIDTH * (draw + (num_sites - 1 - site if sign > 0 else site))


@dataclass(frozen=True)
class RouteTable:
    """What a router says at every place of the tree of routes, and what every route costs.

    Attributes:
        rates: per site, C of eq. 6 (log2 area), float64[E].
        logits: per site, float64[N, P, E], P the routes through the sites before.
        ratios: float64[N, P], FLOPs ratio of every whole route; NaN where a sample cannot take it.
    """

    rates: Sequence[np.ndarray]
    logits: Sequence[np.ndarray]
    ratios: np.ndarray

    def least(self, sign: int) -> list[np.ndarray]:
        """Per site float64[N, P, E]: smallest cost (times `sign`) of the routes through an expert; inf: none."""
        least = np.where(np.isnan(self.ratios), np.inf, sign * self.ratios)
        found = []
        for rates in reversed(self.rates):
            least = least.reshape(len(least), -1, len(rates))
            found.append(least)
            least = least.min(axis=-1)
        return found[::-1]

    def steps(self, sign: int) -> list[list[tuple[float, float]]]:
        """Per sample, (|β|, ratio from there on), ascending, for β of this sign; the first is the router's own."""
        least = self.least(sign)
        # Even draws: what a sample of the same kind draws by chance must not be learnt from a few.
        draws = np.modf(_GOLDEN * np.arange(1, len(self.ratios) + 1))[0]
        return [
            list(self._walk(n, sign, least, float(draw), 0, 0, Standing(), math.inf)) for n, draw in enumerate(draws)
        ]

    def _walk(
        self, n: int, sign: int, least: list[np.ndarray], draw: float, site: int, place: int, came: Standing, end: float
    ) -> Iterator[tuple[float, float]]:
        """Steps of sample `n` from a place in the tree on, while |β| is at most `end`."""
        if site == len(self.rates):
            yield came.since, float(self.ratios[n, place])
            return
        rates = (sign * self.rates[site]).tolist()
        logits, costs = self.logits[site][n, place].tolist(), least[site][n, place].tolist()
        delay = tie_delay(site, len(self.rates), sign, draw)
        taken = list(course(logits, rates, costs, came, delay))
        for (expert, standing), behind in zip(taken, [*taken[1:], None], strict=True):
            until = end if behind is None else min(end, behind[1].since)
            if standing.since < until:
                yield from self._walk(n, sign, least, draw, site + 1, place * len(rates) + expert, standing, until)


def build_dial(table: RouteTable, convention: Convention) -> Dial:
    """The dial of a route table. Rungs end between two samples' steps, so that none of them sits on a threshold."""
    cheaper, dearer = (_rungs(table.steps(sign)) for sign in (1, -1))
    own = np.array([steps[0][1] for steps in table.steps(1)])
    margin = min(MAX_MARGIN, float(own.std()) / math.sqrt(len(own)))
    rungs = [(-bias, ratio) for bias, ratio in reversed(dearer)] + [(0.0, float(own.mean()))] + cheaper
    return Dial(convention, tuple(bias for bias, _ in rungs), tuple(round(ratio, 6) for _, ratio in rungs), margin)


def _rungs(steps: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """(|β|, mean ratio) in the gaps between all samples' steps, those about `STEP` apart and the last."""
    first = sum(each[0][1] for each in steps) / len(steps)
    changes = sorted((b[0], b[1] - a[1]) for each in steps for a, b in pairwise(each))
    rungs, kept, mean = [], first, first
    for (since, change), (until, _) in zip(changes, [*changes[1:], (EXTREME_BIAS, 0.0)], strict=False):
        mean += change / len(steps)
        middle = (since + until) / 2
        if since < middle < until and (abs(mean - kept) >= STEP or until == EXTREME_BIAS):
            rungs.append((until if until == EXTREME_BIAS else middle, mean))
            kept = mean
    return rungs
