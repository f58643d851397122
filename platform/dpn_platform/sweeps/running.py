"""A study while a driver runs it: what is put down, what of it is open, and how far it may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dpn_model.methods.registry import find_method
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.pareto import front_points
from dpn_platform.sweeps.book import StudyBook
from dpn_platform.sweeps.budgets import Settled, budgets_of_front, settled
from dpn_platform.sweeps.events import OnEvent, StopSign, StudyEvent
from dpn_platform.sweeps.header import Header, is_among
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.limits import Spending
from dpn_platform.sweeps.neighbours import comparable_proposals
from dpn_platform.sweeps.reuse import Reuse
from dpn_platform.sweeps.rungs import saving
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.tracking import StudyTracking
from dpn_platform.sweeps.trainable import Execute, build_trainable
from dpn_platform.sweeps.trials import EVALUATION, REFERENCE, Trial, control_trials, method_name, route_trials
from dpn_platform.sweeps.tuning import run_tuner

#: a trial that took more is not evaluated on each of them
_MOST_ROUTES = 12


@dataclass
class RunningStudy:
    """A study while this driver runs it.

    Attributes:
        header: of the study, with the extension that runs.
        data_fingerprint: of its data set.
        left_out: why some of the study's own controls are not among its trials.
        limit: why no more was started.
    """

    config: ExperimentConfig
    ledger: Ledger
    tracking: StudyTracking
    stop: StopSign
    execute: Execute
    on_event: OnEvent
    header: Header
    data_fingerprint: str
    left_out: list[str] = field(default_factory=list)
    limit: str | None = None

    def __post_init__(self) -> None:
        self._reuse = Reuse(self.ledger, self.config, self.data_fingerprint)

    def to_its_end(self, controls: Settled) -> StudyBook:
        """Everything that is open; then what follows from the front that the search has found."""
        assert self.config.sweep is not None
        if self._asks_anew:
            self._ask_again()
        self._put(controls)
        self.on_event(StudyEvent("study", f"study {self.ledger.study}: {self.tracking.url() or self.ledger.uri}"))
        book = self._run_open()
        if self.config.sweep.controls_at_front and self.limit is None:
            self._put(settled(self.config, self._budgets_of_front(book)))
            self._put_trials(self._routes_of_dynamic_trials(book))
            book = self._run_open()
        if found := saving(book.trials.values()):
            hours = f"about {found['saved_device_hours']:.2f} device-hours saved, {found['device_hours']:.2f} spent"
            self.on_event(StudyEvent("note", f"{found['ended']} trials ended early: {hours}"))
        return book

    @property
    def _asks_anew(self) -> bool:
        """Whether the extension that runs changes what trials are evaluated on."""
        changes = self.header.extensions[-1]["changes"] if self.header.extensions else []
        return any(is_among(line, ("eval",)) for line in changes)

    def _budgets_of_front(self, book: StudyBook) -> list[float]:
        """Shares of visual tokens at which searched trials lie on the front that they form among themselves."""
        assert self.config.sweep is not None
        finished = [trial for trial in book.trials.values() if trial.state == "finished"]
        dense = next(book.point(trial)[0] for trial in finished if trial.key == REFERENCE)
        searched = [book.point(trial)[0] for trial in finished if not trial.is_control]
        front = front_points(searched, self.config.sweep.flops_convention)
        return budgets_of_front(front, dense.visual_tokens_mean)

    def _routes_of_dynamic_trials(self, book: StudyBook) -> list[Trial]:
        """Of every trained trial that took several routes: its checkpoint on each, unless its outcomes have them."""
        if self.config.eval.routes == "all":
            return []
        found = []
        for trial in book.trials.values():
            if trial.state != "finished" or trial.on is not None or not find_method(method_name(trial)).takes_routes:
                continue
            routes = sorted({route for counts in book.point(trial)[0].routes.values() for route in counts if route})
            if 1 < len(routes) <= _MOST_ROUTES:
                found += route_trials(trial, routes)
        return found

    def _put(self, controls: Settled) -> None:
        for line in controls.left_out:
            if line not in self.left_out:
                self.on_event(StudyEvent("note", line))
                self.left_out.append(line)
        self._put_trials(control_trials(controls.kept))

    def _put_trials(self, trials: Sequence[Trial]) -> None:
        """Into the ledger, those that it does not know, under this name or another."""
        known = self.ledger.trials()
        names = {trial.fingerprint: trial.key for trial in known.values() if trial.is_control}
        for trial in trials:
            if trial.key in known:
                continue
            trial = replace(trial, fingerprint=self._reuse.fingerprint(trial, known))
            name = names.setdefault(trial.fingerprint, trial.key)
            # A control with more seeds than before is called otherwise; its first seed is the one that is there.
            known[trial.key] = self._put_trial(trial, known) if name == trial.key else known[name]

    def _put_trial(self, trial: Trial, known: Mapping[str, Trial]) -> Trial:
        """Into the ledger, with the result of an equal one where there is such."""
        on = None if trial.on is None else known[trial.on].key
        trial = self._reuse.taken_over(replace(trial, extension=len(self.header.extensions), on=on), known)
        self.ledger.put(trial)
        return trial

    def _ask_again(self) -> None:
        """An extension may ask more questions: what has been trained stays, and answers them anew."""
        known = self.ledger.trials()
        for trial in known.values():
            if trial.state != "finished" or not trial.fingerprint:
                continue
            print_ = self._reuse.fingerprint(trial, known)
            if print_ != trial.fingerprint:
                folder = f"{EVALUATION}-{print_[:8]}"
                again = trial.become("waiting", fingerprint=print_, evaluation_folder=folder, evaluation_uri=None)
                self.ledger.put(again)

    def _run_open(self) -> StudyBook:
        """What is open in the ledger and what the search still proposes."""
        assert self.config.sweep is not None
        known = self.ledger.trials()
        is_shared = self.config.sweep.reuse == "all"
        others = comparable_proposals(self.ledger, self.config, self.data_fingerprint) if is_shared else []
        search = StudySearch(
            self.config.sweep, list(known.values()), self._put_trial, others, lambda: spending.refusal()
        )
        num_trials = sum(trial.is_settled for trial in known.values()) + search.num_open
        book = StudyBook(self.ledger, self.tracking, num_trials, self.stop, self.on_event, self._reuse.note)
        spending = Spending(
            self.config.sweep.limits, book.trials.values, lambda: book.hours_of_running, lambda: search.num_open
        )
        book.spending = spending
        trainable = build_trainable(self.config, self.ledger.runs_uri, self.ledger.study, self.execute)
        with book:
            try:
                run_tuner(trainable, search, book, self.config)
            finally:
                was_cut_short = book.put_back()
            self.limit = spending.refusal() if search.num_open else None
            if was_cut_short or (search.num_open and self.limit is None):
                raise KeyboardInterrupt  # Tune answers Ctrl-C by returning
        if self.limit is not None:
            self.on_event(StudyEvent("note", f"{self.limit}; {search.num_open} trials are left for an extension"))
        return book
