"""The records of one split on this machine's disk, read back in any order.

Rows are spread over the shards by a permutation, so a slice needs records from all over the source. What
stays in memory is 24 bytes a row (its offset, and the key that tells duplicates), whatever the text holds.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from types import TracebackType

import numpy as np
import numpy.typing as npt

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.validation import content_key

_NO_KEY = bytes(16)


class RecordSpool:
    """A temporary file of records; gone when closed, also after SIGKILL.

    Args:
        records: JSON texts in source order; read once.

    Raises:
        DpnError: no space for the temporary file.
    """

    def __init__(self, records: Iterable[bytes]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._ends = array("q", [0])
        self._keys = bytearray()
        try:
            for record in records:
                self._file.write(record)
                self._ends.append(self._ends[-1] + len(record))
                self._keys += content_key(record) or _NO_KEY
            self._file.flush()
        except OSError as error:
            self._file.close()
            raise DpnError(f"cannot keep the records in {tempfile.gettempdir()}: {error}; TMPDIR names it") from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> bytes:
        """The record at that position of the split."""
        self._file.seek(self._ends[position])
        return self._file.read(self._ends[position + 1] - self._ends[position])

    def __enter__(self) -> RecordSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def duplicates(self) -> npt.NDArray[np.bool_]:
        """bool[rows], whether the record repeats an earlier one."""
        high, low = np.frombuffer(bytes(self._keys), np.uint64).reshape(-1, 2).T
        order = np.lexsort((low, high))  # stable: of equal keys the first row comes first
        high, low = high[order], low[order]
        repeats = (high[1:] == high[:-1]) & (low[1:] == low[:-1]) & ((high[1:] != 0) | (low[1:] != 0))
        marks = np.zeros(len(self), np.bool_)
        marks[order[1:]] = repeats
        return marks
