"""A study as one file, to be read elsewhere: ledger, report, metric lines, results and outcome tables of its trials.

manifest.json          what it is, and the digest of every file
study.json             the header
study/...              trials, report and traces of the ledger; not its lease, nor Ray Tune's state
runs/<key>/...         the folder of a trial's run
reused/<key>/...       the evaluation of a trial that lies in another study's run
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dpn_platform.config.provenance import code_version
from dpn_platform.storage import download_folder, list_sizes, read_bytes, together
from dpn_platform.sweeps.bundle import BundleWriter
from dpn_platform.sweeps.header import parse_header
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.trials import Trial, run_name
from dpn_platform.training.run_folder import EXPORT

HEADER, LEDGER, RUNS, REUSED = "study.json", "study", "runs", "reused"
#: of the ledger's folder
LEDGER_PARTS = ("trials", "report", "traces")
_AT_ONCE = 64


class Exported(NamedTuple):
    """What was written.

    Attributes:
        manifest: of the archive.
        left_out: folders of checkpoints that are not in it.
    """

    manifest: dict[str, Any]
    left_out: list[str]


def is_checkpoint(part: str) -> bool:
    """Whether a folder of a run holds weights."""
    return part == EXPORT or part.startswith("step_")


def export_study(ledger: Ledger, file: Path, *, checkpoints: bool = False, force: bool = False) -> Exported:
    """Write a study into one file.

    Args:
        ledger: of the study; of one that is running, the archive is a snapshot.
        file: `.zip` or `.tar.gz`.
        checkpoints: with its weights.
        force: replace the file.

    Raises:
        DpnError: the file is there, no such study, or an object of its ledger is damaged.
    """
    ledger.header()
    trials = list(ledger.trials().values())
    folders = _run_folders(ledger, trials)
    left_out = [] if checkpoints else sorted(one for of in folders.values() for one in of.checkpoints)
    with BundleWriter(file, force=force) as bundle:
        header = read_bytes(ledger.header_uri)
        parse_header(json.loads(header), ledger.header_uri)
        bundle.add(HEADER, header)
        for name, data in _read(
            _ledger_files(ledger) | {name: uri for of in folders.values() for name, uri in of.files}
        ):
            bundle.add(name, data)
        if checkpoints:
            for key, found in folders.items():
                for uri in found.checkpoints:
                    _add_folder(bundle, f"{RUNS}/{key}/{uri.rpartition('/')[2]}", uri)
        about = {
            "study": ledger.study,
            "runs_uri": ledger.runs_uri,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "code_version": code_version(),
            "trials": [trial.key for trial in trials],
            "reused": {trial.key: trial.evaluation_uri for trial in trials if _is_elsewhere(ledger, trial)},
            "checkpoints_left_out": left_out,
        }
        return Exported(bundle.add_manifest(about), left_out)


class _RunFolder(NamedTuple):
    """What of a trial's run goes into the archive: (path there, address) of its files; its checkpoints' folders."""

    files: list[tuple[str, str]]
    checkpoints: list[str]


def _run_folders(ledger: Ledger, trials: list[Trial]) -> dict[str, _RunFolder]:
    return dict(zip([one.key for one in trials], together(lambda one: _run_folder(ledger, one), trials), strict=True))


def _run_folder(ledger: Ledger, trial: Trial) -> _RunFolder:
    folder = f"{ledger.runs_uri}/{run_name(ledger.study, trial)}"
    files, checkpoints = [], set()
    for uri in list_sizes(folder):
        top, _, rest = uri.removeprefix(f"{folder}/").partition("/")
        if rest and is_checkpoint(top):
            checkpoints.add(f"{folder}/{top}")
        elif "shards" not in rest.split("/"):  # what an evaluation needs to go on; its tables are made of it
            files.append((f"{RUNS}/{trial.key}/{uri.removeprefix(f'{folder}/')}", uri))
    if _is_elsewhere(ledger, trial):
        place = str(trial.evaluation_uri)
        found = [uri for uri in list_sizes(place) if "/shards/" not in uri.removeprefix(place)]
        files += [(f"{REUSED}/{trial.key}{uri.removeprefix(place)}", uri) for uri in found]
    return _RunFolder(files, sorted(checkpoints))


def _is_elsewhere(ledger: Ledger, trial: Trial) -> bool:
    """Whether a trial's evaluation lies in another study's run."""
    own = f"{ledger.runs_uri}/{run_name(ledger.study, trial)}/"
    return trial.evaluation_uri is not None and not trial.evaluation_uri.startswith(own)


def _ledger_files(ledger: Ledger) -> dict[str, str]:
    """Path in the archive -> address."""
    uris = [uri for part in LEDGER_PARTS for uri in list_sizes(f"{ledger.uri}/{part}")]
    return {f"{LEDGER}/{uri.removeprefix(f'{ledger.uri}/')}": uri for uri in uris}


def _read(files: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The objects in order, some read together: each costs a round trip, all together more memory than there is."""
    names = sorted(files)
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        yield from zip(some, together(lambda name: read_bytes(files[name]), some), strict=True)


def _add_folder(bundle: BundleWriter, name: str, uri: str) -> None:
    """By way of a disk: checkpoints are larger than memory."""
    with tempfile.TemporaryDirectory(prefix="dpn-export-") as folder:
        download_folder(uri, folder)
        for path in sorted(one for one in Path(folder).rglob("*") if one.is_file()):
            bundle.add(f"{name}/{path.relative_to(folder).as_posix()}", path)
