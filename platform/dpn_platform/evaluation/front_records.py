"""What is known of a front as an estimate, in plain values: `front_statistics` works it out, reports show it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from dpn_platform.evaluation.points import Convention


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Frozen):
    """A figure of chosen points: as measured, then on questions that did not choose, with its 95% interval."""

    measured: float
    value: float
    ci: tuple[float, float]


class Pick(_Frozen):
    """What a rule chooses.

    Attributes:
        rule: "knee" or "best under 0.4".
        share: of the draws in which it chooses this point.
        accuracy: of what the rule chooses.
        others: what it chooses in the other draws, with their shares, the most frequent first.
    """

    rule: str
    point: str
    share: float
    cost: float
    accuracy: Estimate
    others: dict[str, float]


class VolumeAt(_Frozen):
    """The hypervolume once an extension had ended, and what it gained over the one before; None for the first."""

    extension: int
    num_points: int
    volume: Estimate
    gain: Estimate | None


class SeedGroup(_Frozen):
    """A setting with several training seeds; the parts are standard errors of its mean, as fractions."""

    setting: str
    num_seeds: int
    mean: float
    ci: tuple[float, float]
    seeds_error: float
    questions_error: float


class FrontStatistics(_Frozen):
    """All of it.

    Attributes:
        benchmarks: whose mean is the accuracy.
        n, pictures: questions, and what is drawn as a whole.
        membership: point (seeds together) -> share of the draws in which it is on the front.
        left_out: point -> why it is in none of the draws.
    """

    convention: Convention
    benchmarks: tuple[str, ...]
    n: int
    pictures: int
    draws: int
    seed: int
    membership: dict[str, float]
    hypervolume: Estimate
    picks: tuple[Pick, ...]
    history: tuple[VolumeAt, ...]
    seeds: tuple[SeedGroup, ...]
    left_out: dict[str, str] = {}
