"""The order of trials for Ray Tune: what the ledger still has open first, then Optuna's proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from dpn_platform.config.schema import SweepConfig
from dpn_platform.config.search import SearchConfig
from dpn_platform.sweeps.trials import REFERENCE, Trial, searched_trial

ACCURACY, FLOPS_RATIO = "accuracy", "flops_ratio"
_STUDY = "study"
_SEPARATOR = ","
_DIGITS = 3


def optuna_space(search: SearchConfig) -> dict[str, BaseDistribution]:
    """The search space in Optuna's terms, by dotted key; a choice is known by its text, a list by its joined items."""
    space: dict[str, BaseDistribution] = {}
    for dimension in search.dimensions.values():
        key = f"method.{dimension.setting}"
        if dimension.low is None or dimension.high is None:
            space[key] = CategoricalDistribution([_text(choice) for choice in dimension.choices])
        else:
            space[key] = FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)
    return space


def evaluated(trial: Trial, values: Mapping[str, float], space: dict[str, BaseDistribution]) -> FrozenTrial:
    """A finished trial of the ledger in Optuna's terms."""
    return optuna.trial.create_trial(
        params={
            key: _text(trial.params[key]) if isinstance(kind, CategoricalDistribution) else trial.params[key]
            for key, kind in space.items()
        },
        distributions=space,
        values=[values[ACCURACY], values[FLOPS_RATIO]],
    )


class StudySearch(Searcher):
    """Hands out the study's trials one by one; each suggestion is `{"key": ...}`, the trial itself is in the ledger.

    The ledger is the state of the search: Tune may pickle this object, but nothing is ever restored from that.

    Args:
        sweep: how many trials, in which space.
        known: every trial of the ledger.
        put: writes a trial into the ledger.
    """

    def __init__(self, sweep: SweepConfig, known: Sequence[Trial], put: Callable[[Trial], None]) -> None:
        super().__init__(metric=None, mode=None)
        self.sweep = sweep
        self.put = put
        self.waiting = sorted((trial for trial in known if not trial.is_settled), key=_turn)
        self.num_proposed = sum(not trial.is_control for trial in known)
        self.live: dict[str, Trial] = {}
        self.space = optuna_space(sweep.search)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(storage=storage, study_name=_STUDY, directions=["maximize", "minimize"])
        for trial in known:
            if not trial.is_control and trial.state == "finished":
                self.study.add_trial(evaluated(trial, trial.values, self.space))
        self.optuna = OptunaSearch(
            self.space,
            metric=[ACCURACY, FLOPS_RATIO],
            mode=["max", "min"],
            storage=storage,  # OptunaSearch's own way of adding evaluated points knows one objective only
            study_name=_STUDY,
            # Moves on with the trials: a continued study would otherwise propose its first ones again.
            sampler=optuna.samplers.TPESampler(seed=sweep.seed + 1000 * self.num_proposed),
        )
        self.asked: set[str] = set()

    @property
    def num_open(self) -> int:
        """Trials that are still to be run."""
        return len(self.waiting) + max(0, self.sweep.num_trials - self.num_proposed)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None while a searched trial has to wait for the reference it is judged by."""
        is_reference_running = any(trial.key == REFERENCE for trial in self.live.values())
        if self.waiting:
            if is_reference_running and not self.waiting[0].is_control:
                return None
            busy = {one.key for one in (*self.waiting, *self.live.values())}
            free = next((place for place, one in enumerate(self.waiting) if one.on not in busy), None)
            if free is None:
                return None
            trial = self.waiting.pop(free)
        elif self.num_proposed < self.sweep.num_trials:
            if is_reference_running:
                return None
            trial = searched_trial(
                self.num_proposed, self.sweep.search.method, self._readable(self.optuna.suggest(trial_id))
            )
            self.asked.add(trial_id)
            self.num_proposed += 1
            self.put(trial)
        else:
            return str(Searcher.FINISHED)
        self.live[trial_id] = trial
        return {"key": trial.key}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna what became of its proposal."""
        trial = self.live.pop(trial_id, None)
        values = None if error or result is None or ACCURACY not in result else result
        if trial_id in self.asked:
            self.optuna.on_trial_complete(trial_id, values, error=values is None)
        elif trial is not None and not trial.is_control and values is not None:
            self.study.add_trial(evaluated(trial, values, self.space))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: two objectives have no intermediate values."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study is continued from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _readable(self, params: dict[str, Any]) -> dict[str, Any]:
        """Three digits say enough of a number; a choice becomes what it stands for."""
        readable = {}
        for dimension in self.sweep.search.dimensions.values():
            key = f"method.{dimension.setting}"
            if dimension.low is None or dimension.high is None:
                choice = {_text(one): one for one in dimension.choices}[params[key]]
                readable[key] = list(choice) if isinstance(choice, tuple) else choice
            else:
                readable[key] = min(max(float(f"{params[key]:.{_DIGITS}g}"), dimension.low), dimension.high)
        return readable


def _turn(trial: Trial) -> int:
    """The reference, other controls, what is evaluated on a control's checkpoint, what an earlier attempt proposed."""
    return 0 if trial.key == REFERENCE else 3 if not trial.is_control else 2 if trial.on is not None else 1


def _text(choice: Any) -> str:
    return _SEPARATOR.join(map(str, choice)) if isinstance(choice, list | tuple) else str(choice)
