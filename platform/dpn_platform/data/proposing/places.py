"""Where a source of proposals lies, what kind it is, and what tells that it is another one than before."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dpn_model.proposals.opening import SourceKind, kind_of_file, kind_of_model
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import (
    download_folder,
    exists,
    join_uri,
    list_files,
    open_uri,
    read_bytes,
    read_json,
    write_bytes,
)

JITTER: Final = "jitter"
_CONFIG = "config.json"


@dataclass(frozen=True)
class Place:
    """A source as the command line names it.

    Attributes:
        kind: what it is.
        uri: of its file or folder; empty for jittered boxes.
        digest: changes with its files' names, sizes or times.
    """

    kind: SourceKind
    uri: str = ""
    digest: str = ""


def find_place(word: str) -> Place:
    """What a word names: `jitter`, a file of proposals, a detector's folder, or a file of UPN's weights.

    Raises:
        DpnError: nothing is there, or a folder that holds no detector.
    """
    if word == JITTER:
        return Place(JITTER)
    location = open_uri(word)
    if not exists(location.uri):
        raise DpnError(
            f"--with {word}: nothing is there; wanted a file of proposals (.jsonl), a detector's folder, a file of "
            f"UPN's weights (.pth), or {JITTER}"
        )
    if location.filesystem.get_file_info(location.path).is_file:
        return Place(kind_of_file(location.path), location.uri, _digest([location.uri]))
    config = join_uri(location.uri, _CONFIG)
    if not exists(config):
        raise DpnError(f"--with {word}: holds no {_CONFIG}; wanted a from_pretrained folder of a detector")
    content = read_json(config)
    try:
        kind = kind_of_model(str(content.get("model_type") if isinstance(content, dict) else None), word)
    except ValueError as error:
        raise DpnError(f"--with {error}") from error
    return Place(kind, location.uri, _digest(list_files(location.uri)))


@contextmanager
def fetched(uri: str) -> Iterator[str]:
    """The file or folder on this machine's disk: itself, or a copy for as long as it is needed.

    Raises:
        DpnError: it cannot be read.
    """
    location = open_uri(uri)
    if location.is_local:
        yield location.path
        return
    with tempfile.TemporaryDirectory(prefix="dpn-proposals-") as folder:
        if location.filesystem.get_file_info(location.path).is_file:
            file = Path(folder) / location.path.rpartition("/")[2]
            write_bytes(file, read_bytes(uri))
            yield str(file)
        else:
            download_folder(uri, folder)
            yield folder


def _digest(files: list[str]) -> str:
    """16 hex characters over names, sizes and times."""
    locations = [open_uri(file) for file in sorted(files)]
    infos = [location.filesystem.get_file_info(location.path) for location in locations]
    stamps = [(info.base_name, info.size, info.mtime_ns) for info in infos]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]
