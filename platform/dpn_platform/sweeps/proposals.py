"""What Optuna is asked and told. A proposal is one point of the space, whatever number of trials it comes to.

Its trials are its replicates (seeds) and, of each, the points of its checkpoint's dial.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from dpn_model.methods.spec import Dimension
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.objectives import ACCURACY, CURVE, FLOPS_RATIO, constraint, is_maximized
from dpn_platform.config.search import is_of_experiment
from dpn_platform.config.sweep import SweepConfig
from dpn_platform.evaluation.pareto import dominated_area
from dpn_platform.evaluation.points import without_seed
from dpn_platform.sweeps.trials import Trial

#: settings by dotted key, and what they came to
Known = tuple[Mapping[str, Any], Mapping[str, float]]

_METHOD = "method.name"
_SEPARATOR = ","
_DIGITS = 3
#: proposals in a row that are known already, after which the space counts as exhausted
_MOST_REPEATS = 30


def root_of(trial: Trial) -> str:
    """Name of the proposal that a searched trial belongs to."""
    return without_seed(trial.on or trial.key)


def by_proposal(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Searched trials by their proposal; the first of each is the one that the others repeat."""
    found: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.on is not None, len(trial.key), trial.key)):
        if not trial.is_control:
            found.setdefault(root_of(trial), []).append(trial)
    return found


def values_of(members: Sequence[Trial]) -> dict[str, float]:
    """What a proposal's trials come to: means over its seeds, and the area under each one's curve.

    What was evaluated on another's checkpoint counts for that one's curve alone. A value that some seed lacks is left
    out; nothing is left where no seed has finished.
    """
    # What ended at a rung counts as what was to be expected of it: a sampler that heard nothing would try it again.
    done = [trial for trial in members if trial.state == "finished" or (trial.state == "stopped" and trial.values)]
    trained = [trial for trial in done if trial.on is None]
    names = set.intersection(*(set(trial.values) for trial in trained)) if trained else set()
    values = {name: fmean(trial.values[name] for trial in trained) for name in sorted(names)}
    if {ACCURACY, FLOPS_RATIO} <= names:
        curves = [[one for one in done if trial.key in (one.key, one.on)] for trial in trained]
        corners = [[(one.values[FLOPS_RATIO], one.values[ACCURACY]) for one in curve] for curve in curves]
        values[CURVE] = fmean(map(dominated_area, corners))
    return values


class Proposals:
    """Optuna, told of everything that is known; asked for what to try.

    Args:
        sweep: the space, the sampler, objectives and constraints.
        known: the study's own proposals.
        others: comparable ones of other studies.
        reference: values of the dense control, by which constraints may measure; empty until it has finished.
    """

    def __init__(
        self, sweep: SweepConfig, known: Sequence[Known], others: Sequence[Known], reference: Mapping[str, float]
    ) -> None:
        self.sweep = sweep
        self.reference = reference
        self._constraints = [constraint(text) for text in sweep.constraints]
        self._tickets: dict[str, optuna.Trial] = {}
        self._values: dict[str, Mapping[str, float]] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            directions=["maximize" if is_maximized(name) else "minimize" for name in sweep.objectives],
            # Moves on with the trials: a continued study would otherwise propose its first ones again.
            sampler=_sampler(sweep, sweep.seed + 1000 * len(known)),
        )
        for params, values in known:
            self._values[_identity(params)] = {}
            self.tell(params, values)
        for params, values in others:
            self._add(params, values)
        grid = sweep.search.grid() if sweep.sampler == "grid" and sweep.num_trials else []
        named = [*(sweep.search.params_of(point) for point in sweep.points), *grid]
        #: to be run in any case, whatever a sampler would propose
        self._fixed = [params for params in named if _identity(params) not in self._values]
        num_sampled = len(known) - (len(named) - len(self._fixed))
        self.num_open = len(self._fixed) + max(0, (0 if grid else sweep.num_trials) - num_sampled)

    def next(self) -> dict[str, Any] | None:
        """Settings that the study has not tried, by dotted key; None once it has tried them all."""
        if self.num_open == 0:
            return None
        self.num_open -= 1
        if self._fixed:
            params = self._fixed.pop(0)
            self._values[_identity(params)] = {}
            return params
        for _ in range(_MOST_REPEATS):
            ticket = self.study.ask()
            params = self._suggested(ticket)
            identity = _identity(params)
            if identity not in self._values:
                self._values[identity] = {}
                self._tickets[identity] = ticket
                return params
            self._close(ticket, self._values[identity])  # nothing is run twice; the sampler hears it once more
        self.num_open = 0
        return None

    def tell(self, params: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """What a proposal came to; empty where nothing did."""
        identity = _identity(params)
        self._values[identity] = values
        ticket = self._tickets.get(identity)
        if ticket is None:
            self._add(params, values)
        else:
            self._close(ticket, values)

    def _suggested(self, ticket: optuna.Trial) -> dict[str, Any]:
        """What the sampler proposes, in the recipe's terms: a choice for its text, three digits of a number."""
        spaces = self.sweep.search.spaces
        method = ticket.suggest_categorical(_METHOD, list(spaces)) if len(spaces) > 1 else next(iter(spaces))
        params: dict[str, Any] = {_METHOD: method}
        for key, dimension in self.sweep.search.axes(method).items():
            params[key] = _readable(dimension, _suggested(ticket, self._name(method, key), dimension))
        return params

    def _name(self, method: str, key: str) -> str:
        """Of a parameter, in Optuna: two methods may have settings of one name."""
        is_shared = len(self.sweep.search.spaces) == 1 or is_of_experiment(key)
        return key if is_shared else f"{method}: {key}"

    def _close(self, ticket: optuna.Trial, values: Mapping[str, float]) -> None:
        wanted = [values.get(name, math.nan) for name in self.sweep.objectives]
        if any(map(math.isnan, wanted)):
            self.study.tell(ticket, state=TrialState.FAIL)
            return
        for text, excess in self._excess(values).items():
            ticket.set_constraint(text, excess)
        self.study.tell(ticket, wanted)

    def _add(self, params: Mapping[str, Any], values: Mapping[str, float]) -> None:
        """A result that no ticket is for, unless it lies outside the space."""
        wanted = [values.get(name, math.nan) for name in self.sweep.objectives]
        method = params.get(_METHOD)
        if method not in self.sweep.search.spaces or any(map(math.isnan, wanted)):
            return
        axes = self.sweep.search.axes(method)
        given = {key: value for key, value in params.items() if key != _METHOD}
        if set(given) != set(axes) or not all(_contains(one, given[key]) for key, one in axes.items()):
            return
        kinds: dict[str, BaseDistribution] = {self._name(method, key): _distribution(one) for key, one in axes.items()}
        values_of_axes = {self._name(method, key): _encoded(axes[key], given[key]) for key in axes}
        if len(self.sweep.search.spaces) > 1:
            kinds[_METHOD] = CategoricalDistribution(list(self.sweep.search.spaces))
            values_of_axes[_METHOD] = method
        trial = optuna.trial.create_trial(
            params=values_of_axes, distributions=kinds, values=wanted, constraints=self._excess(values)
        )
        self.study.add_trial(trial)

    def _excess(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much each constraint is broken; what cannot be told counts as kept."""
        found = {one.text: one.excess(values, self.reference) for one in self._constraints}
        return {text: 0.0 if math.isnan(excess) else excess for text, excess in found.items()}


def _sampler(sweep: SweepConfig, seed: int) -> optuna.samplers.BaseSampler:
    """Raises ConfigError where a sampler of the user's own cannot be had."""
    if sweep.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if sweep.sampler in ("nsga2", "nsga3"):
        kind = optuna.samplers.NSGAIISampler if sweep.sampler == "nsga2" else optuna.samplers.NSGAIIISampler
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # NSGA-III has been for years
            return kind(seed=seed)
    if ":" not in sweep.sampler:
        return optuna.samplers.RandomSampler(seed=seed)
    module, _, name = sweep.sampler.partition(":")
    try:
        sampler = getattr(import_module(module), name)(seed)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"sweep.sampler = {sweep.sampler!r}: {error}") from None
    if not isinstance(sampler, optuna.samplers.BaseSampler):
        raise ConfigError(f"sweep.sampler = {sweep.sampler!r}: a {type(sampler).__name__} is no sampler of Optuna")
    return sampler


def _identity(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True, default=list)


def _distribution(one: Dimension) -> BaseDistribution:
    if one.low is None or one.high is None:
        return CategoricalDistribution([_text(choice) for choice in one.choices])
    if one.is_whole:
        return IntDistribution(int(one.low), int(one.high), log=one.is_log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.is_log, step=one.step)


def _suggested(ticket: optuna.Trial, name: str, one: Dimension) -> Any:
    if one.low is None or one.high is None:
        return ticket.suggest_categorical(name, [_text(choice) for choice in one.choices])
    if one.is_whole:
        return ticket.suggest_int(name, int(one.low), int(one.high), log=one.is_log, step=int(one.step or 1))
    return ticket.suggest_float(name, one.low, one.high, log=one.is_log, step=one.step)


def _readable(one: Dimension, value: Any) -> Any:
    """Three digits say enough of a number; a choice becomes what it stands for."""
    if one.low is None or one.high is None:
        choice = {_text(choice): choice for choice in one.choices}[value]
        return list(choice) if isinstance(choice, tuple) else choice
    return int(value) if one.is_whole else min(max(float(f"{value:.{_DIGITS}g}"), one.low), one.high)


def _encoded(one: Dimension, value: Any) -> Any:
    return _text(value) if one.low is None else value


def _contains(one: Dimension, value: Any) -> bool:
    if one.low is None or one.high is None:
        return _text(value) in {_text(choice) for choice in one.choices}
    return isinstance(value, int | float) and one.low <= value <= one.high


def _text(choice: Any) -> str:
    return _SEPARATOR.join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)
