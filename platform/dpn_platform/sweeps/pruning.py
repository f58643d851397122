"""What of a study's runs nothing needs any more: weights behind the front, engine states of what has ended.

Kept is what the front, aliases and a resume need, and all that reports read:

- everything of trials that have not ended;
- the exported model of the reference, of points on the front (all their seeds), of points that an alias names, of
  trials that others run on, of what another study of the store needs in the same sense, and of what one starts from;
- of every trial its configuration, metric lines, evaluation and outcome table.

Of a trial without its model the outcome is taken away too: should an extension ask it more questions, it is trained
again. Only what a run writes itself is touched, in folders that say of themselves that they are such a run's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.pareto import front_points
from dpn_platform.evaluation.points import without_seed
from dpn_platform.evaluation.seeds import seeds_together
from dpn_platform.storage import MissingObjectError, delete_folder, delete_object, list_sizes, open_uri, read_json
from dpn_platform.sweeps.catalogue import Standing, read_study, study_names
from dpn_platform.sweeps.lease import Holder, Lease
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.decision import current_aliases
from dpn_platform.sweeps.promotion.promote import read_decisions
from dpn_platform.sweeps.trials import REFERENCE, Trial, run_name, trained_run
from dpn_platform.training.run_folder import EXPORT, OUTCOME, PROVENANCE

_STEPS, _SNAPSHOT = "step_", "checkpoint_manager_snapshot.json"
ENGINE, WEIGHTS, ATTEMPT = "engine state", "weights", "Tune's notes"


class Prunable(NamedTuple):
    """A folder or object that nothing needs.

    Attributes:
        trial: whose it is; "": the study's own.
        what: `ENGINE`, `WEIGHTS` or `ATTEMPT`.
        size: bytes.
    """

    uri: str
    trial: str
    what: str
    size: int
    is_folder: bool


def prunable(ledger: Ledger) -> list[Prunable]:
    """What can go, an outcome before the weights that it speaks of. Nothing is deleted.

    Raises:
        DpnError: a study of the store cannot be read, so nobody knows what it needs.
    """
    needed, at_work = set[str](), set[str]()
    for name in study_names(ledger.runs_uri):
        study = read_study(Ledger(ledger.runs_uri, name))
        needed |= needed_runs(study)
        at_work |= {trained_run(name, trial) for trial in study.trials if not trial.is_settled}
    found: list[Prunable] = []
    for trial in read_study(ledger).trials:
        run = run_name(ledger.study, trial)
        run_uri = f"{ledger.runs_uri}/{run}"
        # Another study may train what it has taken over from this one again, in the same folder.
        if trial.is_settled and trial.on is None and run not in at_work and _is_run(run_uri):
            found += _of_run(trial, run_uri, keeps_weights=run in needed)
    return found + list(_grouped(ledger.uri, list_sizes(f"{ledger.uri}/tune"), "", ATTEMPT))


def needed_runs(study: Standing) -> set[str]:
    """Names of the runs whose exported models a study needs.

    Raises:
        DpnError: part of it is damaged.
    """
    if study.faults:
        raise DpnError(f"study {study.name} is damaged, nobody knows what it needs: {study.faults[0]}")
    trials = {trial.key: trial for trial in study.trials}
    named = set(map(without_seed, current_aliases(read_decisions(study.ledger)).values()))
    keys = {REFERENCE, *(key for key in trials if without_seed(key) in named)}
    for point in front_points(seeds_together(study.points), study.convention):
        keys |= {point.name, *point.seeds}
    keys |= {trial.key for trial in study.trials if not trial.is_settled}
    # What runs on another's checkpoint needs that one, on the front or not: more questions are asked of both.
    keys |= {trial.on for trial in study.trials if trial.on is not None}
    needed = [trials[key] for key in keys if key in trials]
    runs = {trained_run(study.name, one if one.on is None else trials.get(one.on, one)) for one in needed}
    return runs | _bases(study)


def _bases(study: Standing) -> set[str]:
    """Names of the runs of this store whose models a study, or a trial of it, starts from."""
    given = [(study.settings.get("model") or {}).get("base"), *(one.params.get("model.base") for one in study.trials)]
    places = [open_uri(base).uri for base in given if isinstance(base, str) and "/" in base]
    inside = f"{study.ledger.runs_uri.rstrip('/')}/"
    return {place.removeprefix(inside).partition("/")[0] for place in places if place.startswith(inside)}


def prune(ledger: Ledger) -> list[Prunable]:
    """Deletes what can go; what was deleted. The study's lease is held meanwhile.

    Raises:
        DpnError: a driver runs the study, or another one cannot be read.
    """
    with Lease(f"{ledger.uri}/lease", Holder.this_process(), lambda: None):
        found = prunable(ledger)
        for one in found:
            (delete_folder if one.is_folder else delete_object)(one.uri)
    return found


def _is_run(run_uri: str) -> bool:
    """Whether the folder says of itself that it is a run's."""
    try:
        return "fingerprint" in read_json(f"{run_uri}/{PROVENANCE}")
    except MissingObjectError:
        return False


def _of_run(trial: Trial, run_uri: str, *, keeps_weights: bool) -> Iterator[Prunable]:
    sizes = list_sizes(run_uri)
    own = {uri: size for uri, size in sizes.items() if not uri[len(run_uri) + 1 :].startswith("evaluation")}
    steps = {uri: size for uri, size in own.items() if uri[len(run_uri) + 1 :].startswith((_STEPS, _SNAPSHOT))}
    export = {uri: size for uri, size in own.items() if uri.startswith(f"{run_uri}/{EXPORT}/")}
    if export and not keeps_weights:
        outcome = f"{run_uri}/{OUTCOME}"
        if outcome in own:
            yield Prunable(outcome, trial.key, WEIGHTS, own[outcome], is_folder=False)
        yield from _grouped(run_uri, export, trial.key, WEIGHTS)
    yield from _grouped(run_uri, steps, trial.key, ENGINE)


def _grouped(folder: str, sizes: dict[str, int], trial: str, what: str) -> Iterator[Prunable]:
    """The folders and objects directly inside a folder that hold these."""
    totals: dict[str, int] = {}
    for uri, size in sizes.items():
        first = uri[len(folder) + 1 :].partition("/")[0]
        totals[first] = totals.get(first, 0) + size
    for first, size in sorted(totals.items()):
        yield Prunable(f"{folder}/{first}", trial, what, size, is_folder=f"{folder}/{first}" not in sizes)
