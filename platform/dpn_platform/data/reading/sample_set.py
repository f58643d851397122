"""A set of sample keys as bitmaps: what a run has consumed, at one bit per sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_BLOCK_KEYS = 2**16
_BLOCK_BYTES = _BLOCK_KEYS // 8
#: up to here a plain list is the smaller file: a block of the bitmap has 8 KiB
_LISTED_KEYS = 4096


class SampleSet:
    """Keys are added in any order; adding one twice changes nothing."""

    def __init__(self, keys: Iterable[int] | IntArray = ()) -> None:
        self._blocks: dict[int, npt.NDArray[np.uint8]] = {}
        self.add(keys)

    def add(self, keys: Iterable[int] | IntArray) -> None:
        """Puts non-negative keys into the set."""
        values = np.unique(np.asarray(keys if isinstance(keys, np.ndarray) else list(keys), dtype=np.int64))
        numbers, firsts = np.unique(values // _BLOCK_KEYS, return_index=True)
        for number, part in zip(numbers.tolist(), np.split(values, firsts[1:]), strict=False):
            bits = np.zeros(_BLOCK_KEYS, np.bool_)
            bits[part % _BLOCK_KEYS] = True
            self._put(number, np.packbits(bits, bitorder="little"))

    def __len__(self) -> int:
        return int(sum(np.bitwise_count(block).sum(dtype=np.int64) for block in self._blocks.values()))

    @property
    def num_bytes(self) -> int:
        """Memory of the bitmaps."""
        return len(self._blocks) * _BLOCK_BYTES

    def keys(self) -> IntArray:
        """int64[n], ascending."""
        parts = [
            number * _BLOCK_KEYS + np.flatnonzero(np.unpackbits(block, bitorder="little"))
            for number, block in sorted(self._blocks.items())
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def update(self, other: SampleSet) -> None:
        """Adds all keys of another set."""
        for number, block in other._blocks.items():
            self._put(number, block)

    def _put(self, number: int, block: npt.NDArray[np.uint8]) -> None:
        mine = self._blocks.setdefault(number, np.zeros(_BLOCK_BYTES, np.uint8))
        np.bitwise_or(mine, block, out=mine)

    def save(self, folder: Path, name: str) -> None:
        """Writes `name.npy` (few keys: a list) or `name.npz` (bitmaps) into a local folder."""
        if len(self) <= _LISTED_KEYS:
            np.save(folder / f"{name}.npy", self.keys())
            return
        numbers = sorted(self._blocks)
        bitmaps = np.stack([self._blocks[number] for number in numbers])
        np.savez_compressed(folder / f"{name}.npz", numbers=np.asarray(numbers), bitmaps=bitmaps)

    @classmethod
    def load(cls, files: Iterable[Path]) -> SampleSet:
        """The union of what `save` wrote into these files."""
        union = cls()
        for file in files:
            content = np.load(file)
            if file.suffix == ".npy":
                union.add(content)
                continue
            part = cls()
            part._blocks = dict(zip(content["numbers"].tolist(), content["bitmaps"], strict=True))
            union.update(part)
        return union
