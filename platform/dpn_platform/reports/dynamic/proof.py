"""The record of a proof, or of its refusal: one checkpoint at one operating point, and the words for it.

The word "dynamic" is said of a point only where its gain over the best static mixture of its own routes, that over
separately trained pyramids (where there are any at its cost) and that over its own routes shuffled all exclude zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dpn_platform.reports.look.labels import signed_points

Against = Literal["own routes mixed", "trained pyramids", "own routes shuffled", "shuffled within groups"]
#: what has to be beaten; the rest is told beside it
DECISIVE: tuple[Against, ...] = ("own routes mixed", "trained pyramids", "own routes shuffled")
WORDS: dict[Against, str] = {
    "own routes mixed": "the best static mixture of its own routes",
    "trained pyramids": "separately trained pyramids",
    "own routes shuffled": "its own routes shuffled",
    "shuffled within groups": "its own routes shuffled within groups",
}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Gain(_Record):
    """Accuracy of the method minus something at its own mean cost; fractions.

    Attributes:
        shares: of the mixture's parts, or of the routes that are shuffled.
        ci: 95%, paired, whole pictures drawn.
        standard_error: of the value.
        questions_needed: at which a true difference of this size is resolved with 80% power, 5% two-sided.
        resolvable: the smallest difference that these questions resolve so.
    """

    against: Against
    shares: dict[str, float]
    value: float
    ci: tuple[float, float]
    standard_error: float
    questions_needed: int | None
    resolvable: float

    @property
    def is_above(self) -> bool:
        """Whether the interval lies above zero."""
        return self.ci[0] > 0

    @property
    def told(self) -> str:
        """`+3.00 points against its own routes shuffled (+2.10 to +3.90)`."""
        bounds = " to ".join(signed_points(bound, 2) for bound in self.ci)
        return f"{signed_points(self.value, 2)} points against {WORDS[self.against]} ({bounds})"


class Oracle(_Record):
    """What could be gained over the static mixture at the same mean cost, and how much of it the method gains.

    Attributes:
        per_family: of a route per family, chosen on other pictures; None with one family.
        per_sample: of the best route for every question, chosen by its outcome: an upper bound.
        closed_per_family, closed_per_sample: the method's gain over these; None where nothing could be gained.
    """

    per_family: float | None
    per_sample: float
    closed_per_family: float | None
    closed_per_sample: float | None


class HardGroup(_Record):
    """Questions that a control gets wrong: the method and the static mixture there. No claim rests on it.

    The control may be a route of the mixture, which then has nothing there; so may a route that the method takes.
    """

    control: str
    n: int
    method: float
    mixture: float


class InformationBits(_Record):
    """Bits that the route tells, those that it tells by chance alone, and how probable as much is by chance."""

    bits: float
    by_chance: float
    p_value: float


class CostSpread(_Record):
    """Of the samples' costs, in units of the mean uncompressed cost."""

    mean: float
    p95: float
    low: float
    high: float


class MeasuredRoute(_Record):
    """One fixed route, or one separately trained pyramid: where it lies, and the share of samples that took it."""

    name: str
    cost: float | None
    accuracy: float
    share: float = 0.0


class Proof(_Record):
    """One operating point.

    Attributes:
        name: of the checkpoint or the study's point.
        budget: of the dial; None for the checkpoint as it is.
        cost: mean, as a FLOPs ratio in `convention`; None where it was not counted.
        accuracy, ci: the mean over benchmarks of their questions' scores, with its bootstrap interval.
        routes: that were measured, the cheapest first.
        pyramids: what was trained apart, dense among them.
        gains: none where one route alone was measured.
        mixture_accuracy: of the best static mixture of its own routes.
        ties: share of questions with the same outcome on every route.
        entropy: of the routes taken, bits.
        shuffled_within: what groups the routes were shuffled within.
        warnings: what a reader must know before any number.
    """

    name: str
    checkpoint: str
    method: str
    budget: float | None
    convention: str
    n: int
    pictures: int
    cost: float | None
    accuracy: float
    ci: tuple[float, float]
    routes: tuple[MeasuredRoute, ...]
    pyramids: tuple[MeasuredRoute, ...] = ()
    gains: tuple[Gain, ...] = ()
    mixture_accuracy: float | None = None
    ties: float = 1.0
    entropy: float = 0.0
    information: dict[str, InformationBits] = {}
    costs: CostSpread | None = None
    oracle: Oracle | None = None
    hard: HardGroup | None = None
    shuffled_within: str = "family"
    warnings: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The point's name, with its budget where it has one."""
        return self.name if self.budget is None else f"{self.name} at budget {self.budget:g}"

    @property
    def routes_taken(self) -> list[str]:
        """Those that some sample took, the commonest first."""
        taken = sorted((route for route in self.routes if route.share), key=lambda one: (-one.share, one.name))
        return [route.name for route in taken]

    def gain(self, against: Against) -> Gain | None:
        """The gain over this; None where it could not be measured."""
        return next((one for one in self.gains if one.against == against), None)

    @property
    def is_dynamic(self) -> bool:
        """Whether every decisive gain was measured and lies above zero; pyramids count where there are any."""
        held = [self.gain("own routes mixed"), self.gain("own routes shuffled")]
        pyramids = self.gain("trained pyramids")
        return all(one is not None and one.is_above for one in held) and (pyramids is None or pyramids.is_above)

    @property
    def verdict(self) -> str:
        """One sentence with its figures."""
        decisive = [one for against in DECISIVE if (one := self.gain(against)) is not None]
        if self.is_dynamic:
            told = [one.told for one in decisive]
            if self.gain("trained pyramids") is None:
                why = "all are dearer" if self.pyramids else "there are none"
                told.append(f"not held against separately trained pyramids ({why})")
            return f"dynamic at equal mean cost: {'; '.join(told)}"
        if len(self.routes) == 1:
            return f"has one route ({self.routes[0].name}): nothing is chosen per sample, so nothing is claimed"
        reasons = [one.told for one in decisive if not one.is_above]
        if self.gain("own routes mixed") is None:
            reasons.append("its costs were not counted" if self.cost is None else "no static mixture is as cheap")
        if len(taken := self.routes_taken) == 1:
            reasons.insert(0, f"every picture takes {taken[0]}")
        return f"not shown to be dynamic: {'; '.join(reasons)}"


def summary_of(proofs: Sequence[Proof]) -> str:
    """One line: `dynamic: 1 of 3 checkpoints; not shown to be dynamic: 2 of 3 checkpoints`, dials' points likewise."""
    parts = []
    for is_dynamic, what in ((True, "dynamic"), (False, "not shown to be dynamic")):
        counts = []
        for is_dial, kind in ((False, "checkpoint"), (True, "dial point")):
            verdicts = [one.is_dynamic for one in proofs if (one.budget is not None) == is_dial]
            if is_dynamic in verdicts:
                plural = "s" if len(verdicts) > 1 else ""
                counts.append(f"{verdicts.count(is_dynamic)} of {len(verdicts)} {kind}{plural}")
        if counts:
            parts.append(f"{what}: {', '.join(counts)}")
    return "; ".join(parts)
