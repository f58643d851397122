"""The ledger of a study in storage: enough to rebuild the whole sweep, whatever happened to the process that ran it.

    <runs>/studies/<study>.json               what the study is, and whether it is finished
    <runs>/studies/<study>/trials/<key>.json  one object per trial: parameters, state, result
    <runs>/studies/<study>/lease/             who runs it now
    <runs>/studies/<study>/tune/              Ray Tune's own state, not needed for a resume
    <runs>/<study>-<key>/                     the trials' training runs

Each object is replaced in one step and written by one process, the driver that holds the lease.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import difference, dump_config, fingerprint, parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.yaml_text import parse_yaml
from dpn_platform.storage import (
    MissingObjectError,
    create_bytes,
    join_uri,
    list_files,
    read_json,
    together,
    write_json,
)
from dpn_platform.sweeps.header import EXTENDABLE, NOT_THE_STUDY, NOT_TOLD, Header, header_at, is_among
from dpn_platform.sweeps.lease import Holder, Lease
from dpn_platform.sweeps.trials import Trial


class Ledger:
    """One study's ledger; holds nothing but addresses."""

    def __init__(self, runs_uri: str, study: str) -> None:
        self.study = study
        self.runs_uri = join_uri(runs_uri)
        self.header_uri = f"{self.runs_uri}/studies/{study}.json"
        self.uri = f"{self.runs_uri}/studies/{study}"

    def create(self, config: ExperimentConfig, data_fingerprint: str = "") -> Header:
        """Open a new study.

        Raises:
            DpnError: the name is taken.
        """
        header = Header(
            name=self.study,
            config_name=config.name,
            config=dump_config(config),
            fingerprint=fingerprint(config, NOT_THE_STUDY),
            created=_now(),
            data_fingerprint=data_fingerprint,
        )
        if not create_bytes(self.header_uri, json.dumps(asdict(header)).encode()):
            raise DpnError(f"study '{self.study}' exists already: continue it with --resume, or choose another --name")
        return header

    def open(self, config: ExperimentConfig, data_fingerprint: str = "") -> Header:
        """The header of the study, to be continued with `config`.

        Raises:
            DpnError: no such study, it is archived, or its config is another one; the message shows the difference.
        """
        header = self.header()
        self._check_is_open(header, data_fingerprint)
        # Not by its fingerprint: a later version knows more keys.
        stored = self.config(header)
        if changes := [line for line in difference(stored, config) if not is_among(line, NOT_THE_STUDY)]:
            raise DpnError(
                f"study '{self.study}' was started with another config ({'; '.join(changes)}); add to it with "
                f"`dpn study extend {self.study}`, start a new study, or resume with the same config"
            )
        return header

    def extended(self, config: ExperimentConfig, data_fingerprint: str = "") -> Header:
        """The header with another extension, to be run with `config`; without changes, the last one goes on.

        Nothing is written: that is `put_header`, for who holds the lease.

        Raises:
            DpnError: its trials would not be comparable with those that are there; the message shows what differs.
        """
        header = self.header()
        self._check_is_open(header, data_fingerprint)
        stored = self.config(header)
        changes = [line for line in difference(stored, config) if not is_among(line, NOT_TOLD)]
        if others := [line for line in changes if not is_among(line, EXTENDABLE)]:
            raise DpnError(
                f"study '{self.study}' cannot be extended so, its points would not be comparable: {'; '.join(others)}; "
                "keep them apart with --branch NAME"
            )
        if changes:
            added = {
                "number": len(header.extensions) + 1,
                "created": _now(),
                "changes": changes,
                "config_fingerprint": fingerprint(config),
            }
            header = replace(header, extensions=(*header.extensions, added))
        print_ = fingerprint(config, NOT_THE_STUDY)
        return replace(header, state="running", config=dump_config(config), fingerprint=print_, num_failed=0)

    def put_header(self, header: Header) -> None:
        """Write what the study is now."""
        write_json(self.header_uri, asdict(header))

    def _check_is_open(self, header: Header, data_fingerprint: str) -> None:
        """Refuses a study that is put away, and a data set that was published anew: its questions are others."""
        if header.archived is not None:
            raise DpnError(
                f"study '{self.study}' is archived since {header.archived}; "
                f"take it out first: dpn study archive {self.study} --undo"
            )
        if header.data_fingerprint and data_fingerprint and header.data_fingerprint != data_fingerprint:
            raise DpnError(
                f"study '{self.study}' is about data set {header.data_fingerprint}, its address now holds "
                f"{data_fingerprint}; points would not be comparable: start a new study"
            )

    def config(self, header: Header | None = None) -> ExperimentConfig:
        """What the study goes on with."""
        source = f"study '{self.study}'"
        return parse_config(parse_yaml((header or self.header()).config, source), source)

    def header(self) -> Header:
        """What the study is.

        Raises:
            DpnError: there is no such study.
        """
        try:
            return header_at(self.header_uri)
        except MissingObjectError:
            raise DpnError(f"there is no study '{self.study}' in {self.runs_uri}; start it without --resume") from None

    def finish(self, duration_s: float) -> None:
        """Mark the study, and its last extension, as finished; `duration_s` of all that it took."""
        header = self.header()
        extensions = header.extensions
        if extensions and "duration_s" not in extensions[-1]:
            ended = {**extensions[-1], "duration_s": round(duration_s - header.duration_s, 1)}
            if "hours_before" in ended:
                hours = sum(trial.device_hours for trial in self.trials().values())
                ended["device_hours"] = round(hours - ended["hours_before"], 6)
            extensions = (*extensions[:-1], ended)
        self.put_header(replace(header, state="finished", duration_s=round(duration_s, 1), extensions=extensions))

    def finish_but_for(self, num_failed: int) -> None:
        """Mark the study as done but for trials that failed: it is not finished, and a resume tries them again."""
        self.put_header(replace(self.header(), num_failed=num_failed))

    def reopen(self, config: ExperimentConfig) -> None:
        """Mark the study as running again, with the config it goes on with."""
        self.put_header(replace(self.header(), state="running", config=dump_config(config), num_failed=0))

    def archive(self, *, undo: bool = False) -> Header:
        """Put the study away, or take it out again; nothing of it is deleted.

        The lease is held meanwhile, so that no driver goes on with it at the same moment.

        Raises:
            DpnError: there is no such study, or a driver runs it.
        """
        self.header()  # no lease is left beside a study that is none
        with Lease(f"{self.uri}/lease", Holder.this_process(), lambda: None):
            header = replace(self.header(), archived=None if undo else _now())
            self.put_header(header)
        return header

    def put(self, trial: Trial) -> None:
        """Write a trial as it stands."""
        write_json(f"{self.uri}/trials/{trial.key}.json", trial.to_json())

    def trial(self, key: str) -> Trial:
        """One trial as it stands."""
        return trial_at(f"{self.uri}/trials/{key}.json")

    def trials(self) -> dict[str, Trial]:
        """All trials the ledger knows, by key: controls first, then the search's in order."""
        found = together(trial_at, list_files(f"{self.uri}/trials", ".json"))
        return {trial.key: trial for trial in sorted(found, key=lambda trial: (not trial.is_control, trial.key))}


def latest_unfinished(runs_uri: str, config_name: str) -> str:
    """Name of the newest unfinished study that was started from the config of that name.

    Raises:
        DpnError: there is none.
    """
    uris = list_files(join_uri(runs_uri, "studies"), ".json", recursive=False)
    of_config = [header for header in together(header_at, uris) if header.config_name == config_name]
    open_ones = [header for header in of_config if header.state != "finished" and header.archived is None]
    if not open_ones:
        raise DpnError(f"no unfinished study of '{config_name}' in {runs_uri}; name one with --name, or start without")
    return max(open_ones, key=lambda header: header.created).name


def trial_at(uri: str) -> Trial:
    """The trial in an object.

    Raises:
        DamagedObjectError: not a trial of this version.
    """
    return Trial.from_json(read_json(uri), uri)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
