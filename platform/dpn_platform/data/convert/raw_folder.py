"""A raw set that is being written: records wait on this machine's disk, and appear in the folder when all are there."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, join_uri, open_uri, require_bucket, write_file, write_json

#: not beside the records: `{folder}/*.json` are splits
ABOUT_FOLDER = "about"
_SPLIT_SUFFIXES = ("json", "jsonl", "ndjson", "csv", "tsv")


class RawFolder:
    """Writes splits of records into a folder that `dpn data ingest` reads.

    Args:
        uri: the folder; it may hold other splits.
        force: replace a split that is there already.

    Attributes:
        left_out: how much was not taken over, by reason.
        decided: what the source's own data decided.
    """

    def __init__(self, uri: str, *, force: bool = False) -> None:
        require_bucket(uri)
        self.uri = open_uri(uri).uri
        self.left_out: Counter[str] = Counter()
        self.decided: dict[str, str] = {}
        self._force = force
        self._rows: Counter[str] = Counter()
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dpn-convert-")))

    def __enter__(self) -> RawFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def begin(self, split: str) -> None:
        """Makes room for a split, before the work.

        Raises:
            DpnError: the folder has it already.
        """
        there = [name for name in (f"{split}.{suffix}" for suffix in _SPLIT_SUFFIXES) if self._has(name)]
        if there and (not self._force or there != [f"{split}.jsonl"]):
            raise DpnError(f"{join_uri(self.uri, there[0])} is there already; choose another folder, or --force")
        self._files[split] = self._stack.enter_context((self._folder / f"{split}.jsonl").open("wb"))

    def add(self, split: str, record: dict[str, Any]) -> None:
        """Puts a record behind the split's others.

        Raises:
            DpnError: this machine's disk is full.
        """
        try:
            self._files[split].write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            place = tempfile.gettempdir()
            raise DpnError(f"cannot keep the records in {place}: {error}; TMPDIR names it") from error
        self._rows[split] += 1

    def publish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Writes all splits into the folder, and beside them how they were made.

        Returns:
            What `about/{split}.json` holds: `about`, what was `decided`, `rows` by split, and `left_out` by reason.

        Raises:
            DpnError: a split has no record, or the storage refused.
        """
        left_out = {reason: count for reason, count in sorted(self.left_out.items()) if count}
        summary = {**about, "decided": self.decided, "rows": dict(self._rows), "left_out": left_out}
        for split, file in self._files.items():
            file.close()
            if not self._rows[split]:
                counts = ", ".join(f"{reason} {count}" for reason, count in left_out.items()) or "nothing"
                raise DpnError(f"split '{split}' has no record; nothing was written. Left out: {counts}")
        for split in self._files:
            write_json(join_uri(self.uri, ABOUT_FOLDER, f"{split}.json"), summary)
            write_file(join_uri(self.uri, f"{split}.jsonl"), self._folder / f"{split}.jsonl")
        return summary

    def _has(self, name: str) -> bool:
        return exists(join_uri(self.uri, name))
