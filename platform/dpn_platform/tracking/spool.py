"""Spool: what could not be sent to the tracker, one JSON line per verb, kept on disk until it can be sent.

A spool belongs to one process. One left behind by a process that is gone is adopted by the next tracker of the same
experiment on the same machine.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dpn_platform.config.places import state_folder

Entry = dict[str, Any]


def spool_folder() -> Path:
    """`spool` in the state folder."""
    return state_folder() / "spool"


class Spool:
    """An append-only file of entries; it exists only while it holds something."""

    def __init__(self, experiment: str, uri: str, folder: Path | None = None) -> None:
        self._folder = folder or spool_folder()
        place = uuid.uuid5(uuid.NAMESPACE_URL, uri).hex[:8]
        host = re.sub(r"[^\w-]", "_", socket.gethostname())
        label = re.sub(r"[^\w-]", "_", experiment)
        self._prefix = f"mlflow-{label}-{place}-{host}"
        self.path = self._folder / f"{self._prefix}-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl"
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def append(self, entry: Entry) -> None:
        """Add an entry; it is on disk when this returns."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._entries.append(entry)

    def drop(self, count: int) -> None:
        """Forget the `count` oldest entries, in the file too."""
        del self._entries[:count]
        if not self._entries:
            self.path.unlink(missing_ok=True)
            return
        # A crash here leaves either the old file or the new one, never half of one.
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False, encoding="utf-8") as stream:
            stream.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in self._entries)
        os.replace(stream.name, self.path)

    def adopt_orphans(self) -> int:
        """Take over the spools of processes that are gone.

        Returns:
            Number of entries taken over.
        """
        taken = 0
        for orphan in sorted(self._folder.glob(f"{self._prefix}-*.jsonl")) if self._folder.is_dir() else []:
            pid = orphan.stem.rsplit("-", 2)[-2]
            if orphan == self.path or not pid.isdigit() or _is_alive(int(pid)):
                continue
            claimed = orphan.with_suffix(f".claimed-{os.getpid()}")
            try:
                orphan.rename(claimed)  # of two adopters one succeeds
            except FileNotFoundError:
                continue
            for line in claimed.read_text(encoding="utf-8").splitlines():
                taken += self._take(line)
            claimed.unlink()
        return taken

    def _take(self, line: str) -> int:
        try:
            entry = json.loads(line)
        except ValueError:
            return 0  # the writer was killed in the middle of its last line
        self.append(entry)
        return 1


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
