"""What an extension will come to, told before it starts: trials that are open, and hours by what others have taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import NamedTuple

from dpn_platform.config.load import difference
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.storage import exists
from dpn_platform.sweeps.budgets import settled
from dpn_platform.sweeps.header import is_among
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.reuse import Reuse
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.trials import Trial, control_trials, trained_run
from dpn_platform.training.run_folder import OUTCOME


class Outlook(NamedTuple):
    """What is open.

    Attributes:
        trials: to be run; controls at the front's budgets, which nobody knows yet, are not among them.
        taken_over: more, whose results are there.
        device_hours: None where nothing like them has finished yet.
    """

    trials: int
    taken_over: int
    device_hours: float | None

    def line(self) -> str:
        """For people."""
        hours = "" if self.device_hours is None else f", about {self.device_hours:.2f} device-hours"
        taken = f", {self.taken_over} more taken over" if self.taken_over else ""
        return f"{self.trials} trial{'' if self.trials == 1 else 's'} to run{hours}{taken}"


def outlook(config: ExperimentConfig, ledger: Ledger, data_fingerprint: str) -> Outlook:
    """What `config` asks for beyond what a study holds. Nothing is written, and no cluster is needed."""
    assert config.sweep is not None
    known = ledger.trials()
    reuse = Reuse(ledger, config, data_fingerprint)
    prints = {trial.fingerprint for trial in known.values() if trial.is_control}
    added: dict[str, Trial] = {}
    for trial in control_trials(settled(config).kept):
        if trial.key not in known and reuse.fingerprint(trial, {**known, **added}) not in prints:
            added[trial.key] = reuse.taken_over(trial, {**known, **added})
    search = StudySearch(config.sweep, [*known.values(), *added.values()], lambda trial, known: trial)
    waiting = [trial for trial in search.waiting if trial.reused_from is None]
    again = _asked_again(config, ledger, known, reuse)
    retrained = [one for one in again if one.on is None and _is_pruned(ledger, one)]
    proposals = search.proposals.num_open * config.sweep.replicates
    trained = sum(trial.on is None for trial in waiting) + proposals + len(retrained)
    evaluated = sum(trial.on is not None for trial in waiting) + proposals * len(config.sweep.dial)
    evaluated += len(again) - len(retrained)
    of_training = hours_of(known.values(), trains=True)
    of_evaluation = hours_of(known.values(), trains=False)
    if of_evaluation is None:
        of_evaluation = of_training  # which has one behind it: rather too much than nothing
    is_known = of_training is not None or not trained + evaluated
    hours = trained * (of_training or 0.0) + evaluated * (of_evaluation or 0.0) if is_known else None
    return Outlook(trained + evaluated, len(search.waiting) - len(waiting), hours)


def _asked_again(config: ExperimentConfig, ledger: Ledger, known: Mapping[str, Trial], reuse: Reuse) -> list[Trial]:
    """Finished trials that answer anew, where `config` asks other questions than the study has."""
    if not known or not any(is_among(line, ("eval",)) for line in difference(ledger.config(), config)):
        return []
    done = [one for one in known.values() if one.state == "finished" and one.fingerprint]
    return [one for one in done if reuse.fingerprint(one, known) != one.fingerprint]


def _is_pruned(ledger: Ledger, trial: Trial) -> bool:
    return not exists(f"{ledger.runs_uri}/{trained_run(ledger.study, trial)}/{OUTCOME}")


def hours_of(trials: Iterable[Trial], *, trains: bool) -> float | None:
    """Mean device-hours of finished trials that were trained, or only evaluated; None: none is."""
    own = [one for one in trials if one.state == "finished" and one.reused_from is None]
    done = [one.device_hours for one in own if (one.on is None) == trains and one.device_hours]
    return fmean(done) if done else None
