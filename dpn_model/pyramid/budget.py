"""The budget dial's arithmetic: from what every route would cost to biases that reach any mean cost between extremes.

A bias of β * log2(kernel area) on the router's logits moves samples to cheaper kernels, the least reluctant ones
first. A ladder of such biases runs from the dearest routes to the cheapest; between two rungs, a share of the samples
takes the one and the rest the other.

Shape letters: N samples, S sites, E experts of a site, P routes up to a site, R rungs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

#: a bias no router argues with; its multiples stay exact in float64
EXTREME_BIAS = 1e6
#: neighbouring rungs differ by at most this mean ratio, unless β cannot be divided further
MAX_STEP = 0.02
#: of β: far above the differences that another batch makes to float32 logits, far below those between samples
MIN_WIDTH = 1e-5
#: standard error of a request that a dial is built for: 0.02 is two and a half of it
MAX_ERROR = 0.008
#: standard deviation of the ratio between samples that a dial is content with, however many samples there are
MAX_SPREAD = 0.15
#: a request may exceed the extremes by this much: printed extremes are rounded
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Dial:
    """A calibrated dial and where it stands.

    Attributes:
        convention: of the FLOPs ratios (`dpn_model.flops`).
        biases: β per rung and site.
        bend: what favours kernels between the extremes (`expert_biases`).
        ratios: mean FLOPs ratio of the calibration samples at every rung.
        flops_ratio: the requested ratio; None: the router decides alone.
    """

    convention: str
    biases: tuple[tuple[float, ...], ...]
    bend: float
    ratios: tuple[float, ...]
    flops_ratio: float | None = None

    @property
    def reachable(self) -> tuple[float, float]:
        """Smallest and largest mean ratio."""
        return min(self.ratios), max(self.ratios)

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

    def mixture(self) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """β per site of two neighbouring rungs around the request, and the share of samples that takes the first."""
        if self.flops_ratio is None:
            raise ValueError("flops_ratio is None; turn the dial first")
        low, high = self.reachable
        wanted = min(max(self.flops_ratio, low), high)
        ratios = np.asarray(self.ratios)
        around = (np.minimum(ratios[:-1], ratios[1:]) <= wanted) & (wanted <= np.maximum(ratios[:-1], ratios[1:]))
        gaps = np.where(around, np.abs(np.diff(ratios)), np.inf)
        rung = int(gaps.argmin())
        first, second = self.ratios[rung], self.ratios[rung + 1]
        share = 1.0 if first == second else (wanted - second) / (first - second)
        return self.biases[rung], self.biases[rung + 1], share

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Dial:
        """Inverse of `to_dict`."""
        biases = tuple(tuple(rung) for rung in data["biases"])
        return cls(data["convention"], biases, data["bend"], tuple(data["ratios"]), data["flops_ratio"])


def expert_biases(bias: float, bend: float, rates: np.ndarray) -> np.ndarray:
    """float64[E], added to the logits: β * C, and a concave term that takes experts in the order of their C."""
    return np.asarray(bias * rates + bend * (rates - rates.min()) * (rates.max() - rates))


@dataclass(frozen=True)
class RouteTable:
    """What a router says at every place of the tree of routes, and what every route costs.

    Attributes:
        rates: per site, C of eq. 6 (log2 area), float64[E].
        logits: per site, float64[N, P, E], P the routes through the sites before; -inf where not feasible.
        ratios: float64[N, P], FLOPs ratio of every whole route.
    """

    rates: Sequence[np.ndarray]
    logits: Sequence[np.ndarray]
    ratios: np.ndarray

    def sample_ratios(self, biases: Sequence[float], bend: float) -> np.ndarray:
        """float64[N], FLOPs ratios under one β per site; exact, without running the model."""
        samples = np.arange(len(self.ratios))
        route_N = np.zeros(len(samples), dtype=np.int64)
        for bias, rates, logits in zip(biases, self.rates, self.logits, strict=True):
            route_N = route_N * len(rates) + (logits[samples, route_N] + expert_biases(bias, bend, rates)).argmax(
                axis=1
            )
        return np.asarray(self.ratios[samples, route_N])

    def largest_bias(self) -> float:
        """A β beyond which, in either direction, no sample of the table changes its route."""
        largest = 0.0
        for rates, logits in zip(self.rates, self.logits, strict=True):
            apart = np.abs(rates[:, None] - rates[None, :])
            with np.errstate(invalid="ignore"):
                differences = np.abs(logits[..., :, None] - logits[..., None, :])
            is_pair = np.isfinite(differences) & (apart > 0)
            steps = np.where(is_pair, differences, 0) / np.where(apart > 0, apart, 1)
            largest = max(largest, float(steps.max()))
        return largest + 1.0


def build_ladder(table: RouteTable, convention: str) -> Dial:
    """The dial of a route table, from the dearest rung to the cheapest.

    One β for all sites follows the router best, but where its sites agree, samples end at the extremes, and the mean
    of a few hundred is uncertain. Then later sites run ahead of earlier ones and kernels between the extremes are
    favoured, as little as makes the sampling error of a request (calibration's and held-out samples' together, as
    many of these as of those) fit the tolerance.
    """
    largest = min(MAX_SPREAD, MAX_ERROR * math.sqrt(len(table.ratios) / 2))
    best: tuple[float, float, list[_Rung]] | None = None
    for bend in (0.0, *(table.largest_bias() * 2.0**power for power in range(-6, 2))):
        rungs = _climb(table, round(bend, 7))
        spread = max(math.hypot(*pair) for pair in _spreads(rungs))
        if best is None or spread < best[0]:
            best = (spread, round(bend, 7), rungs)
        if spread <= largest:
            break
    assert best is not None
    _, bend, rungs = best
    return Dial(convention, tuple(rung.biases for rung in rungs), bend, tuple(round(rung.mean, 6) for rung in rungs))


@dataclass(frozen=True)
class _Rung:
    biases: tuple[float, ...]
    mean: float
    variance: float


def _spreads(rungs: Sequence[_Rung]) -> Iterator[tuple[float, float]]:
    """Standard deviation between samples halfway between neighbouring rungs: within them, and between them."""
    for low, high in zip(rungs, rungs[1:], strict=False):
        yield math.sqrt((low.variance + high.variance) / 2), (low.mean - high.mean) / 2


def _climb(table: RouteTable, bend: float) -> list[_Rung]:
    """Rungs from dearest to cheapest, β halved until neighbours are close."""
    num_sites = len(table.rates)
    lead = 4 * bend  # at the largest bend, a site has done all its steps before the one above it begins

    def rung(bias: float) -> _Rung:
        biases = tuple(round(bias + lead * (site - (num_sites - 1) / 2), 7) for site in range(num_sites))
        ratios = table.sample_ratios(biases, bend)
        return _Rung(biases, float(ratios.mean()), float(ratios.var()))

    widest = max(float(np.ptp(rates)) for rates in table.rates)
    limit = table.largest_bias() + lead * num_sites + bend * widest
    pending = [(-limit, limit, rung(-limit), rung(limit))]
    found = [rung(-EXTREME_BIAS), pending[0][2]]
    while pending:
        low, high, dear, cheap = pending.pop()
        if abs(dear.mean - cheap.mean) <= MAX_STEP or high - low < MIN_WIDTH:
            found.append(cheap)
        else:
            middle = (low + high) / 2
            between = rung(middle)
            pending += [(middle, high, between, cheap), (low, middle, dear, between)]
    return [*found, rung(EXTREME_BIAS)]
