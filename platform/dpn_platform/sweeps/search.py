"""The order of trials for Ray Tune: what the ledger still has open first, then what is proposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from ray.tune.search import Searcher

from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO
from dpn_platform.config.sweep import SweepConfig
from dpn_platform.sweeps.proposals import Known, Proposals, by_proposal, root_of, values_of
from dpn_platform.sweeps.trials import REFERENCE, Trial, members_of, searched_trial

VALUES, STOPPED = "values", "stopped"


class StudySearch(Searcher):
    """Hands out the study's trials one by one; each suggestion is `{"key": ...}`, the trial itself is in the ledger.

    The ledger is the state of the search: Tune may pickle this object, but nothing is ever restored from that.

    Args:
        sweep: how many trials, in which space.
        known: every trial of the ledger.
        put: writes a trial into the ledger, beside those that it is told; gives it back as it stands there.
        others: comparable proposals of other studies.
        refusal: why no further trial may start now; None: one may.
    """

    def __init__(
        self,
        sweep: SweepConfig,
        known: Sequence[Trial],
        put: Callable[[Trial, Mapping[str, Trial]], Trial],
        others: Sequence[Known] = (),
        refusal: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self.sweep = sweep
        self.put = put
        self.refusal = refusal
        self.trials = {trial.key: trial for trial in known}
        groups = by_proposal(known)
        for members in groups.values():  # what an extension asks of them beyond what they have
            self._complete(members[0])
        self.waiting = sorted((trial for trial in self.trials.values() if not trial.is_settled), key=_turn)
        self.num_proposed = len(groups)
        self.live: dict[str, Trial] = {}
        reference = self.trials[REFERENCE].values if REFERENCE in self.trials else {}
        found = [(members[0].params, values_of(members)) for members in groups.values()]
        self.proposals = Proposals(sweep, found, others, reference)

    @property
    def study(self) -> optuna.Study:
        """What Optuna knows."""
        return self.proposals.study

    @property
    def num_open(self) -> int:
        """Trials that are still to be run."""
        return len(self.waiting) + self.proposals.num_open * self.sweep.replicates * (1 + len(self.sweep.dial))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None while a searched trial has to wait for the reference it is judged by."""
        if self.refusal() is not None:
            return None if self.live else str(Searcher.FINISHED)
        is_reference_running = any(trial.key == REFERENCE for trial in self.live.values())
        if not self.waiting and not is_reference_running:
            self._propose()
        if not self.waiting:
            return None if is_reference_running and self.num_open else str(Searcher.FINISHED)
        if is_reference_running and not self.waiting[0].is_control:
            return None
        busy = {one.key for one in (*self.waiting, *self.live.values())}
        free = next((place for place, one in enumerate(self.waiting) if one.on not in busy), None)
        if free is None:
            return None
        self.live[trial_id] = self.waiting.pop(free)
        return {"key": self.live[trial_id].key}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna what became of its proposal, once all of its trials have ended."""
        trial = self.live.pop(trial_id, None)
        if trial is None:
            return
        if result is not None and STOPPED in result:
            trial = trial.become("stopped", values=_numbers(result.get(VALUES, {})))
        elif error or result is None or ACCURACY not in result:
            trial = trial.become("failed")
        else:
            named = {name: float(result[name]) for name in (ACCURACY, FLOPS_RATIO)}
            trial = trial.become("finished", values={**_numbers(result.get(VALUES, {})), **named})
        self.trials[trial.key] = trial
        if trial.key == REFERENCE:
            self.proposals.reference = trial.values
        members = [] if trial.is_control else by_proposal(self.trials.values())[root_of(trial)]
        if members and all(one.is_settled or one.state == "failed" for one in members):
            self.proposals.tell(members[0].params, values_of(members))

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Nothing: trials report once."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study is continued from the ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def _propose(self) -> None:
        params = self.proposals.next()
        if params is not None:
            method = str(params.pop("method.name"))
            self.waiting = self._complete(searched_trial(self.num_proposed, method, params))
            self.num_proposed += 1

    def _complete(self, first: Trial) -> list[Trial]:
        """What a proposal comes to and the ledger does not have, now written there."""
        added = []
        for trial in members_of(first, self.sweep.replicates, self.sweep.dial):
            if trial.key not in self.trials:
                self.trials[trial.key] = self.put(trial, self.trials)
                added.append(self.trials[trial.key])
        return added


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def _turn(trial: Trial) -> int:
    """The reference, other controls, what is evaluated on a control's checkpoint, what an earlier attempt proposed."""
    return 0 if trial.key == REFERENCE else 3 if not trial.is_control else 2 if trial.on is not None else 1
