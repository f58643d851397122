"""When a searched trial ends early: hopeless by its loss, or dominated whatever it can still become.

At a rung of its training a trial is measured on held-out rows (`training.held_out`). What others that have finished
measured there, and what they came to, says what it can become: a line through all but one of them, moved up by what
that one came to above it. Of all these lines the highest is the bound, or with enough trials the one that `level` of
them exceed (a one-sided jackknife+, for trials that are exchangeable). Lines are between logarithms of errors, since
bad trials scatter by points where good ones differ by tenths. Its FLOPs ratio may still fall by as much as that of
others of its method has fallen from this rung on, at the same level; three of them must have shown it. The trial ends
where a finished one is at least as accurate as the bound and no dearer, or where a constraint is broken at the bound.
At a rung of its questions the bound is that of the paired difference on those that both have answered, at 1% over all
rivals and rungs.

Controls are never ended, nor what has had a point already. A bound learns from the study's own trials: there are none
before `min_trials` have finished.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist, fmean
from typing import NamedTuple

from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO, constraint
from dpn_platform.config.sweep import EarlyStopping, Proxy
from dpn_platform.training.metric_lines import EXACT, HELD_OUT_LOSS, KL_DENSE, PREFILL_RATIO, Line

#: what a line holds, and whether it is a share of right answers; of the others less is better
MEASURES: dict[Proxy, tuple[str, bool]] = {
    "loss": (HELD_OUT_LOSS, False), "exact": (EXACT, True), "kl": (KL_DENSE, False)
}  # fmt: skip
_WINDOW = 4
_LEVEL = 0.01
#: errors below are taken for alike
_LEAST_ERROR = 0.005
#: trials of a method, before which nobody knows how its cost moves from a rung on
_FEWEST_ALIKE = 3


class Finished(NamedTuple):
    """A trained trial that has finished: what it measured at its rungs, by step, and what it came to."""

    name: str
    method: str
    rungs: Mapping[int, Line]
    accuracy: float
    flops_ratio: float
    is_feasible: bool = True


class Verdict(NamedTuple):
    """Why a trial ends, and what it would probably have come to, where that can be told."""

    reason: str
    accuracy: float | None = None
    flops_ratio: float | None = None


@dataclass(frozen=True)
class Judge:
    """Says of a trial's metric lines whether it ends; the same on every rank.

    Attributes:
        rule: of the study.
        method: of the trial.
        steps: of its rungs.
        reference_loss: the dense control's `train/loss_lm`; None: there is none.
        finished: the study's trials that have.
        constraints: of the study.
        dense: values of the dense control, by objective.
    """

    rule: EarlyStopping
    method: str
    steps: tuple[int, ...]
    reference_loss: float | None
    finished: tuple[Finished, ...] = ()
    constraints: tuple[str, ...] = ()
    dense: Mapping[str, float] | None = None

    def __call__(self, lines: Sequence[Line]) -> str | None:
        """Why the trial ends here; None: it goes on."""
        if (reason := self._hopeless(lines)) is not None:
            return reason
        verdict = self.at_rung(lines)
        return None if verdict is None else verdict.reason

    def _hopeless(self, lines: Sequence[Line]) -> str | None:
        """Its mean recent `train/loss_lm` is more than `loss_margin` above the reference."""
        if self.reference_loss is None or len(lines) < _WINDOW or lines[-1]["step"] < self.rule.grace_steps:
            return None
        mean = fmean(line["train/loss_lm"] for line in lines[-_WINDOW:])
        limit = self.reference_loss + self.rule.loss_margin
        return None if mean <= limit else f"mean train/loss_lm {mean:.4g} above {limit:.4g} at step {lines[-1]['step']}"

    def at_rung(self, lines: Sequence[Line]) -> Verdict | None:
        """By the latest rung that it has reached; None: it goes on."""
        key, is_share = MEASURES[self.rule.by]
        now = next((line for line in reversed(lines) if line["step"] in self.steps and key in line), None)
        if now is None:
            return None
        step = int(now["step"])
        peers = [one for one in self.finished if key in one.rungs.get(step, {})]
        alike = [one for one in peers if one.method == self.method and PREFILL_RATIO in one.rungs[step]]
        if len(peers) < self.rule.min_trials or len(alike) < _FEWEST_ALIKE or PREFILL_RATIO not in now:
            return None
        known = [(_merit(one.rungs[step][key], is_share), _merit(one.accuracy, True)) for one in peers]
        expected, most = map(_share, bound(known, _merit(now[key], is_share), self.rule.level))
        moved = sorted(one.flops_ratio - one.rungs[step][PREFILL_RATIO] for one in alike)
        fall = -moved[_place(self.rule.level, len(moved))]
        least = max(0.0, now[PREFILL_RATIO] - max(0.0, fall))
        if (why := self._beaten(most, least)) is None:
            return None
        told = f"at step {step} it can still become {100 * most:.1f}% at {least:.3f}, by {len(peers)} trials; {why}"
        return Verdict(told, expected, now[PREFILL_RATIO] + fmean(moved))

    def _beaten(self, accuracy: float, flops_ratio: float) -> str | None:
        """What is at least as good as the best that it can become; None: nothing."""
        values = {ACCURACY: accuracy, FLOPS_RATIO: flops_ratio}
        for text in self.constraints:
            one = constraint(text)
            if one.is_at_most == (one.name == FLOPS_RATIO) and one.excess(values, self.dense or {}) > 0:
                return f"it would break {text}"
        rivals = [one for one in self.finished if one.is_feasible and one.flops_ratio <= flops_ratio]
        best = max(rivals, key=lambda one: one.accuracy, default=None)
        if best is None or best.accuracy < accuracy:
            return None
        return f"{best.name} has {100 * best.accuracy:.1f}% at {best.flops_ratio:.3f}"


def _merit(value: float, is_share: bool) -> float:
    """-log of an error, so that more is better: of 1 minus a share of right answers, or of a loss itself."""
    return -log(_LEAST_ERROR + max(0.0, 1.0 - value if is_share else value))


def _share(merit: float) -> float:
    """The share of right answers that has this merit."""
    return 1.0 + _LEAST_ERROR - exp(-merit)


def bound(known: Sequence[tuple[float, float]], now: float, level: float = 0.0) -> tuple[float, float]:
    """What a trial that measures `now` comes to: as expected, and at the most.

    Args:
        known: of others, what they measured there (more is better) and what they came to; at least three.
        level: share of trials that may come to more; 0, as below one in `len(known) + 1`: the highest bound there is.
    """
    lines = [_line([*known[:place], *known[place + 1 :]]) for place in range(len(known))]
    above = [came - (at + slope * measured) for (measured, came), (at, slope) in zip(known, lines, strict=True)]
    most = sorted((at + slope * now + more for (at, slope), more in zip(lines, above, strict=True)), reverse=True)
    at, slope = _line(known)
    return at + slope * now, most[_place(level, len(known))]


def _place(level: float, count: int) -> int:
    """Which of so many extremes a new one exceeds with a chance of at most `level`; the outermost is the first, 0."""
    return max(0, int(level * (count + 1)) - 1)


def _line(known: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares, of a slope that does not fall: intercept and slope."""
    measured, came = [one for one, _ in known], [one for _, one in known]
    middle, level = fmean(measured), fmean(came)
    spread = sum((one - middle) ** 2 for one in measured)
    slope = sum((one - middle) * (other - level) for one, other in known) / spread if spread else 0.0
    slope = max(0.0, slope)
    return level - slope * middle, slope


class Answers(NamedTuple):
    """What a trial scored on its questions, in their order, and what each has cost, with and without its method."""

    name: str
    scores: Sequence[float]
    costs: Sequence[tuple[float, float]]

    def flops_ratio(self, count: int) -> float:
        """On the first questions."""
        dense = sum(dense for _, dense in self.costs[:count])
        return sum(cost for cost, _ in self.costs[:count]) / dense if dense else 1.0


def beaten_on_questions(trial: Answers, rivals: Sequence[Answers], num_questions: int, num_looks: int) -> str | None:
    """Which rival is surely better on all questions, by those that the trial has answered; None: none is.

    Args:
        trial: what it has answered of `num_questions`, the first of them.
        rivals: finished trials that keep the study's constraints, on all of them.
        num_looks: at which it may end.
    """
    count = len(trial.scores)
    cost = trial.flops_ratio(count)
    able = [one for one in rivals if len(one.scores) == num_questions and one.flops_ratio(count) <= cost]
    if not able or not 1 < count < num_questions:
        return None
    z = NormalDist().inv_cdf(1 - _LEVEL / (len(able) * num_looks))
    left = sqrt((1 - count / num_questions) / count)  # what is answered already is no sample of itself
    for rival in sorted(able, key=lambda one: -fmean(one.scores)):
        differences = [theirs - own for theirs, own in zip(rival.scores, trial.scores, strict=False)]
        mean = fmean(differences)
        # As if one question differed at least: that all were answered alike proves nothing of the rest.
        variance = max(fmean((one - mean) ** 2 for one in differences), 1 / count)
        if mean - z * sqrt(variance) * left > 0:
            return (
                f"after {count} of {num_questions} questions {rival.name} is {100 * mean:.1f} points ahead, at "
                f"{rival.flops_ratio(count):.3f} against {cost:.3f}"
            )
    return None
