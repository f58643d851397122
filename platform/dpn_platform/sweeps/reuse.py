"""Equal trials are one: what decides a trial's result has a fingerprint, under which its result is found again.

    <runs>/trials/<fingerprint>.json    which trial of which study has finished with it

Looked up before a trial is run, in whatever study. What was taken over keeps its evaluation where it lies. The
fingerprint covers the configuration that the trial runs with, data set, base and, of what is evaluated on another's
checkpoint, that one's; not the version of the code, which is kept beside the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpn_platform.config.load import fingerprint
from dpn_platform.config.provenance import code_version
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.run import read_result
from dpn_platform.storage import MissingObjectError, list_files, list_sizes, read_json, write_json
from dpn_platform.sweeps.header import HOW_IT_IS_RUN
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.trials import Trial, trial_config

FOLDER = "trials"
_NOT_THE_RESULT = (*HOW_IT_IS_RUN, "sweep")
_DIGITS = 16
#: of a base's file, what is read: its ends, where it is larger
_END = 2**20


class Reuse:
    """The fingerprints of one study's trials, and the results that other trials left under them.

    Args:
        config: the study's.
        data_fingerprint: of its data set.
    """

    def __init__(self, ledger: Ledger, config: ExperimentConfig, data_fingerprint: str) -> None:
        assert config.sweep is not None
        self._ledger = ledger
        self._config = config
        self._where = config.sweep.reuse
        self._given = f"{data_fingerprint} {base_digest(config.model.base)}"
        self._prints: dict[str, str] = {}

    def fingerprint(self, trial: Trial, trials: Mapping[str, Trial]) -> str:
        """Of all that decides the trial's result; `trials`: those of the study, for the one that it runs on."""
        if trial.key not in self._prints:  # many run on one, and each takes a config to be resolved
            self._prints[trial.key] = self._fingerprint(trial, trials)
        return self._prints[trial.key]

    def _fingerprint(self, trial: Trial, trials: Mapping[str, Trial]) -> str:
        config = trial_config(self._config, trial)
        base = "" if config.model.base == self._config.model.base else base_digest(config.model.base)
        parts = [self._given, base, fingerprint(config, _NOT_THE_RESULT), repr(trial.dial), repr(trial.route)]
        if trial.on is not None:
            parts.append(self.fingerprint(trials[trial.on], trials))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGITS]

    def taken_over(self, trial: Trial, trials: Mapping[str, Trial]) -> Trial:
        """The trial with its fingerprint, and with the result of an equal one where there is such, still to be told.

        Args:
            trial: that is to be run.
            trials: of the study, by key.
        """
        trial = replace(trial, fingerprint=self.fingerprint(trial, trials))
        found = self._found(trial.fingerprint)
        if found is None:
            return trial
        return replace(trial, reused_from=f"{found['study']}/{found['key']}", evaluation_uri=found["evaluation_uri"])

    def _found(self, print_: str) -> dict[str, Any] | None:
        if self._where == "none":
            return None
        try:
            found: dict[str, Any] = read_json(self._uri(print_))
        except MissingObjectError:
            return None
        is_own = found["study"] == self._ledger.study
        if not is_own and self._where != "all":
            return None
        result = read_result(found["evaluation_uri"])
        # A point without its checkpoint could be on a front, and then be of no use to anybody.
        is_whole = result is not None and bool(list_files(str(result.key.get("checkpoint_uri", ""))))
        return found if is_whole else None

    def note(self, trial: Trial) -> None:
        """A trial has finished: from now on it is found."""
        if trial.fingerprint and not trial.is_taken_over:
            # Who asks it further questions wants the run that trained it, which another study may own.
            study, _, key = (trial.reused_from or f"{self._ledger.study}/{trial.key}").partition("/")
            entry = {"study": study, "key": key, "evaluation_uri": trial.evaluation_uri}
            write_json(self._uri(trial.fingerprint), {**entry, "code_version": code_version()})

    def _uri(self, print_: str) -> str:
        return f"{self._ledger.runs_uri}/{FOLDER}/{print_}.json"


def base_digest(base: str) -> str:
    """Of the base's files: their names, sizes and, of a local folder, contents, large ones' first and last MiB alone.

    A name, such as `tiny`, stands for itself.
    """
    folder = Path(base)
    digest = hashlib.sha256(base.encode() if not folder.is_dir() else b"")
    if folder.is_dir():
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_END))
                if path.stat().st_size > 2 * _END:
                    file.seek(-_END, 2)
                digest.update(file.read())
    elif "://" in base:
        digest.update(repr(sorted(list_sizes(base).items())).encode())
    return digest.hexdigest()[:_DIGITS]
