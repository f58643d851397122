"""The studies in storage: which there are, how each stands, and one of them read as a whole.

Storage is the truth: a study is there whether or not a tracker has heard of it. A damaged object is named and does not
hide the rest.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

from dpn_platform.config.errors import DpnError
from dpn_platform.config.messages import did_you_mean
from dpn_platform.config.yaml_text import parse_yaml
from dpn_platform.evaluation.points import Convention, Point
from dpn_platform.evaluation.trial_points import point_of_trial
from dpn_platform.storage import DamagedObjectError, MissingObjectError, exists, join_uri, list_files, together
from dpn_platform.sweeps.header import Header, header_at
from dpn_platform.sweeps.lease import Holder, latest_holder
from dpn_platform.sweeps.ledger import Ledger, trial_at
from dpn_platform.sweeps.trials import Trial

#: "finished": its driver came to its end, though trials may have failed; "interrupted": it did not, and nobody runs it
StudyState = Literal["running", "interrupted", "finished", "archived", "damaged"]
LATEST = "latest"
_ADDRESS = re.compile(r"(?P<runs>.+)/studies/(?P<name>[^/]+?)(\.json)?/?")

Item = TypeVar("Item")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Standing:
    """How a study stands.

    Attributes:
        header: None where it cannot be read.
        holder: who runs it, None where nobody does.
        faults: what could not be read, a line each.
        num_trials: objects in its ledger.
        is_read: whether its trials were.
        trials, points: controls first, each seed by itself; of the finished trials their points.
        damaged: trial -> why it, or its point, cannot be read; among the `faults` too.
    """

    ledger: Ledger
    header: Header | None
    state: StudyState
    holder: Holder | None = None
    faults: tuple[str, ...] = ()
    num_trials: int = 0
    is_read: bool = False
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    points: tuple[Point, ...] = field(default=(), repr=False)
    damaged: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Of the study."""
        return self.ledger.study

    @property
    def created(self) -> str:
        """ISO time; empty where the header cannot be read."""
        return "" if self.header is None else self.header.created

    @property
    def settings(self) -> dict[str, Any]:
        """The study's resolved config, as plain values: methods that are not installed here are no hindrance."""
        if self.header is None:
            return {}
        values = parse_yaml(self.header.config, f"study '{self.name}'")
        return values if isinstance(values, dict) else {}

    @property
    def convention(self) -> Convention:
        """Of the FLOPs on the study's axis."""
        named: Convention = (self.settings.get("sweep") or {}).get("flops_convention", "swiglu")
        return named

    @property
    def told(self) -> str:
        """Its state for people, with what is wrong with its trials: `finished, 2 failed, 1 damaged`."""
        bad = {"failed": self.count("failed"), "damaged": len(self.damaged)}
        told = ", ".join([self.state, *(f"{count} {name}" for name, count in bad.items() if count)])
        is_else = self.state != "damaged" and len(self.faults) > len(self.damaged)
        return f"{told} !" if is_else else told

    def count(self, *states: str) -> int:
        """Trials in any of these states, where they were read; no damaged one is in any."""
        return sum(trial.state in states and trial.key not in self.damaged for trial in self.trials)


def list_studies(
    runs_uri: str,
    pattern: str = "*",
    *,
    states: Collection[str] | None = None,
    with_records: bool = False,
    long: bool = False,
) -> list[Standing]:
    """The studies whose name fits a pattern, the newest first.

    Args:
        runs_uri: where runs are kept.
        pattern: as the shell's `*`, `?` and `[...]`.
        states: those in one of these states; default: all.
        with_records: read every trial's record, not only how many there are: that alone says which are damaged.
        long: read their points too.

    Raises:
        DpnError: the store cannot be reached.
    """
    names = [name for name in study_names(runs_uri) if fnmatchcase(name, pattern)]
    found = together(lambda name: _standing(Ledger(runs_uri, name)), names)
    found = [one for one in found if states is None or one.state in states]
    read = _with_points if long else _with_trials
    if long or with_records:  # one study after another: each is read by many hands already
        found = [one if one.header is None else read(one) for one in found]
    return sorted(found, key=lambda one: (one.created, one.name), reverse=True)


def study_names(runs_uri: str) -> list[str]:
    """Names of all studies, sorted; of damaged ones too."""
    uris = list_files(join_uri(runs_uri, "studies"), ".json", recursive=False)
    return sorted(uri.rpartition("/")[2].removesuffix(".json") for uri in uris)


def find_study(runs_uri: str, what: str, *, exactly: bool = False) -> Ledger:
    """The ledger of a study by its name, the beginning of it (not `exactly`), its address, or as "latest".

    Raises:
        DpnError: there is none (the nearest is named), or the beginning is that of several.
    """
    if "/" in what:
        address = _ADDRESS.fullmatch(what)
        if address is None:
            raise DpnError(f"{what}: not the address of a study, which is <runs>/studies/STUDY")
        found = Ledger(address["runs"], address["name"])
        if not exists(found.header_uri):
            raise DpnError(f"there is no study at {found.uri}")
        return found
    names = study_names(runs_uri)
    if not names:
        raise DpnError(
            f"there are no studies in {join_uri(runs_uri)}; `dpn sweep` makes one, --runs-uri looks elsewhere"
        )
    if what in names:
        return Ledger(runs_uri, what)
    if what == LATEST:
        return _latest(runs_uri)
    fitting = [name for name in names if name.startswith(what) and not exactly]
    if len(fitting) > 1:
        shown = ", ".join(fitting[:5]) + (f" and {len(fitting) - 5} more" if len(fitting) > 5 else "")
        raise DpnError(f"'{what}' is the beginning of {len(fitting)} studies: {shown}")
    if not fitting:
        hint = did_you_mean(what, names) or "; `dpn study list` shows those there are"
        raise DpnError(f"there is no study '{what}' in {join_uri(runs_uri)}{hint}")
    return Ledger(runs_uri, fitting[0])


def read_study(ledger: Ledger) -> Standing:
    """A study with its trials and their points.

    Raises:
        DpnError: its header cannot be read. Trials that cannot are among its `faults`.
    """
    header_at(ledger.header_uri)
    return _with_points(_standing(ledger))


def _with_trials(standing: Standing) -> Standing:
    """The study with its trials read; what cannot be read becomes one of its faults."""
    uris = list_files(f"{standing.ledger.uri}/trials", ".json", recursive=False)
    trials, faults = _readable(trial_at, uris)
    trials.sort(key=lambda trial: (not trial.is_control, trial.key))
    damaged = {uri.rpartition("/")[2].removesuffix(".json"): fault for uri, fault in faults}
    faults_of_all = (*standing.faults, *damaged.values())
    found = replace(standing, trials=tuple(trials), num_trials=len(uris), is_read=True)
    return replace(found, faults=faults_of_all, damaged=damaged)


def _with_points(standing: Standing) -> Standing:
    """With its points too, where they can be read."""
    found = _with_trials(standing)
    folder = f"{found.ledger.uri}/trials"
    points, faults = _readable(lambda trial: point_of_trial(vars(trial), f"{folder}/{trial.key}.json"), found.trials)
    damaged = {trial.key: fault for trial, fault in faults}
    return replace(
        found,
        points=tuple(point for point in points if point is not None),
        faults=(*found.faults, *damaged.values()),
        damaged={**found.damaged, **damaged},
    )


def _latest(runs_uri: str) -> Ledger:
    standing = [one for one in list_studies(runs_uri) if one.state not in ("archived", "damaged")]
    if not standing:
        raise DpnError(f"all studies in {join_uri(runs_uri)} are archived; `dpn study list --all` shows them")
    return standing[0].ledger


def _standing(ledger: Ledger) -> Standing:
    num_trials = len(list_files(f"{ledger.uri}/trials", ".json", recursive=False))
    headers, faults = _readable(header_at, [ledger.header_uri])
    holders, more = _readable(latest_holder, [f"{ledger.uri}/lease"])
    alive = next((one for one in holders if one is not None and not one.is_gone(time.time())), None)
    header = next(iter(headers), None)
    told = tuple(fault for _, fault in (*faults, *more))
    return Standing(ledger, header, _state(header, alive), alive, told, num_trials)


def _state(header: Header | None, alive: Holder | None) -> StudyState:
    if header is None:
        return "damaged"
    if header.archived is not None:
        return "archived"
    if alive is not None:
        return "running"
    return "finished" if header.state == "finished" or header.num_failed else "interrupted"


def _readable(read: Callable[[Item], Read], items: Sequence[Item]) -> tuple[list[Read], list[tuple[Item, str]]]:
    """What could be read, and why the others could not; a store that is away is no fault of an object."""

    def attempt(item: Item) -> tuple[list[Read], list[tuple[Item, str]]]:
        try:
            return [read(item)], []
        except (DamagedObjectError, MissingObjectError) as error:
            return [], [(item, str(error))]

    found = together(attempt, items)
    return [one for read, _ in found for one in read], [fault for _, faults in found for fault in faults]
