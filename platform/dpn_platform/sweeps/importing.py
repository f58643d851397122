"""A study out of an archive: verified as a whole, then written, its header last."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import create_bytes, exists, list_sizes, read_bytes, together, upload_folder, write_json
from dpn_platform.sweeps.bundle import MANIFEST, members, verified_manifest
from dpn_platform.sweeps.export import HEADER, LEDGER, LEDGER_PARTS, REUSED, RUNS, is_checkpoint
from dpn_platform.sweeps.header import NAME_PATTERN, parse_header
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.moving import Moved, moved_header
from dpn_platform.sweeps.trials import Trial

ORIGIN = "imported.json"
_AT_ONCE = 64


class Imported(NamedTuple):
    """A study that has arrived.

    Attributes:
        ledger: of it.
        manifest: of the archive.
        absent: checkpoints that are not there, at the addresses where they were.
    """

    ledger: Ledger
    manifest: dict[str, Any]
    absent: list[str]


def import_study(file: Path, runs_uri: str, name: str | None = None) -> Imported:
    """Put the study of an archive into a store. What an interrupted import has written is taken as it is.

    Args:
        file: what `export_study` wrote.
        runs_uri: where to.
        name: of the study there; default: its own.

    Raises:
        DpnError: the archive is damaged or unsafe, the name is taken, or something else is where a file of it goes.
    """
    manifest = verified_manifest(file)
    study = name or str(manifest["study"])
    if not re.fullmatch(NAME_PATTERN, study):
        raise DpnError(f"study name '{study}': letters, digits and ._- are allowed, a letter or digit first")
    ledger = Ledger(runs_uri, study)
    if exists(ledger.header_uri):
        raise DpnError(f"study '{study}' exists already in {ledger.runs_uri}; choose another --name")
    targets = {member: _target(file, ledger, member, manifest) for member in manifest["files"] if member != HEADER}
    if HEADER not in manifest["files"]:
        raise DpnError(f"{file}: holds no {HEADER}")
    header = _write(file, targets, _moved(ledger, manifest), ledger)
    write_json(f"{ledger.uri}/{ORIGIN}", {key: value for key, value in manifest.items() if key != "files"})
    # Last: until then there is no such study, and a second attempt goes on.
    if not create_bytes(ledger.header_uri, header):
        raise DpnError(f"study '{study}' exists already in {ledger.runs_uri}; choose another --name")
    return Imported(ledger, manifest, [str(uri) for uri in manifest.get("checkpoints_left_out", ())])


def _target(file: Path, ledger: Ledger, member: str, manifest: dict[str, Any]) -> str:
    """Where a file of the archive goes."""
    top, *rest = member.split("/")
    if top == LEDGER and len(rest) > 1 and rest[0] in LEDGER_PARTS:
        return f"{ledger.uri}/{'/'.join(rest)}"
    if top in (RUNS, REUSED) and len(rest) > 1 and rest[0] in manifest.get("trials", ()):
        return "/".join([_folder_of(ledger, rest[0], top), *rest[1:]])
    raise DpnError(f"{file}: {member} belongs to no part of a study; nothing was imported")


def _folder_of(ledger: Ledger, key: str, part: str) -> str:
    folder = f"{ledger.runs_uri}/{ledger.study}-{key}"
    return folder if part == RUNS else f"{folder}/{REUSED}"


def _moved(ledger: Ledger, manifest: dict[str, Any]) -> Moved:
    """Where everything was, and is now; checkpoints that were left behind are where they were."""
    runs, study = str(manifest["runs_uri"]), str(manifest["study"])
    places = {f"{runs}/studies/{study}": ledger.uri}
    places |= {f"{runs}/{study}-{key}": _folder_of(ledger, key, RUNS) for key in manifest["trials"]}
    places |= {str(old): _folder_of(ledger, key, REUSED) for key, old in manifest.get("reused", {}).items()}
    places |= {str(uri): str(uri) for uri in manifest.get("checkpoints_left_out", ())}
    return Moved(places)


def _write(file: Path, targets: dict[str, str], moved: Moved, ledger: Ledger) -> bytes:
    """Writes all but the header, which is returned as it is to be."""
    header = b""
    waiting: list[tuple[str, bytes]] = []
    with ExitStack() as stack:
        weights = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dpn-import-")))
        for name, source in members(file):
            if name == HEADER:
                header = moved_header(source.read(), ledger.study, ledger.runs_uri)
                parse_header(json.loads(header), f"{file}, {HEADER}")
            elif name != MANIFEST and (place := _checkpoint_of(name)) is not None:
                target = weights / place / name.removeprefix(f"{place}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            elif name != MANIFEST:
                data = source.read()
                waiting.append((targets[name], _as_of_today(name, data, moved, ledger)))
            if len(waiting) == _AT_ONCE:
                together(_put, waiting)
                waiting = []
        together(_put, waiting)
        for place, folder in _checkpoints_in(weights):
            some = next(member for member in targets if member.startswith(f"{place}/"))
            _put_folder(folder, targets[some].removesuffix(some.removeprefix(place)))
    return header


def _as_of_today(name: str, data: bytes, moved: Moved, ledger: Ledger) -> bytes:
    if not name.endswith(".json"):
        return data
    data = moved.json_bytes(data)
    if name.startswith(f"{LEDGER}/trials/"):
        trial = Trial.from_json(json.loads(data), name)
        if name != f"{LEDGER}/trials/{trial.key}.json":  # its key is a part of addresses
            raise DpnError(f"{name}: holds the trial '{trial.key}'")
    if name == f"{LEDGER}/report/{HEADER}":
        return json.dumps({**json.loads(data), "study": ledger.study}, ensure_ascii=False).encode()
    return data


def _checkpoint_of(name: str) -> str | None:
    """`runs/<key>/<folder>` of a file of a checkpoint."""
    parts = name.split("/")
    return "/".join(parts[:3]) if parts[0] == RUNS and len(parts) > 3 and is_checkpoint(parts[2]) else None


def _checkpoints_in(weights: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted(weights.glob(f"{RUNS}/*/*")):
        yield folder.relative_to(weights).as_posix(), folder


def _put(one: tuple[str, bytes]) -> None:
    uri, data = one
    if not create_bytes(uri, data) and read_bytes(uri) != data:
        raise DpnError(f"{uri} holds something else; choose another --name, under which nothing is there")


def _put_folder(folder: Path, uri: str) -> None:
    there = {place.removeprefix(f"{uri}/"): size for place, size in list_sizes(uri).items()}
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if any(sizes.get(name) != size for name, size in there.items()):
        raise DpnError(f"{uri} holds something else; choose another --name, under which nothing is there")
    upload_folder(folder, uri)
