"""Which rows neighbouring layers hold in the cache, and where a step's rows go.

Shape letters: B samples, T packed tokens, N columns behind the prompt, P columns seen, S columns of one step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import contiguous_positions


@dataclass
class CacheStage:
    """Layers between two reductions, which hold the same tokens; or one patched layer, which may hold fewer.

    Attributes:
        lengths: tokens per sample, on the host.
        position_offset_B: int64[B] or int64[B, 3], rotary position of a token behind the prompt minus its slot (0
            where positions are contiguous).
        owned_BN: bool[B, N], of a patched layer: which of the N columns behind the prompt own keys; else None.
        is_renumbered: of a patched layer, whose rows stand at 0, 1, 2 ...: its positions are its slots.
        added: of a patched layer, in the step that is open: bool[T], which of the new rows it stored.
    """

    lengths: tuple[int, ...]
    position_offset_B: Tensor
    owned_BN: Tensor | None = None
    is_renumbered: bool = False
    added: np.ndarray | None = None

    def grow(self, new: tuple[int, ...], is_token_BS: Tensor) -> None:
        """A step is over: `new` rows per sample, from the columns bool[B, S]."""
        if self.owned_BN is None:
            self.lengths = tuple(length + count for length, count in zip(self.lengths, new, strict=True))
            return
        added = np.ones(sum(new), dtype=bool) if self.added is None else self.added
        starts = np.cumsum((0, *new))
        stored = tuple(int(added[a:b].sum()) for a, b in zip(starts[:-1], starts[1:], strict=True))
        owned_BS = torch.zeros_like(is_token_BS)
        owned_BS[is_token_BS] = torch.from_numpy(added).to(is_token_BS.device)
        self.owned_BN = torch.cat([self.owned_BN, owned_BS], dim=1)
        self.lengths = tuple(length + count for length, count in zip(self.lengths, stored, strict=True))
        self._shift([count - own for count, own in zip(new, stored, strict=True)])
        self.added = None

    def drop(self, dropped_BP: Tensor, prompt_columns: int) -> None:
        """Rows of some columns bool[B, P] are forgotten."""
        counts = dropped_BP.sum(1)
        own = counts
        if self.owned_BN is not None:
            own = (dropped_BP[:, prompt_columns:] & self.owned_BN).sum(1)
            self.owned_BN = self.owned_BN & ~dropped_BP[:, prompt_columns:]
        self.lengths = tuple(length - n for length, n in zip(self.lengths, own.tolist(), strict=True))
        self._shift((own - counts).tolist())

    def _shift(self, by: list[int]) -> None:
        """Positions go on where other layers are, whatever this one stored."""
        if any(by) and not self.is_renumbered:
            by_B = torch.tensor(by, device=self.position_offset_B.device)
            self.position_offset_B = self.position_offset_B + by_B.view(-1, *[1] * (self.position_offset_B.ndim - 1))


@dataclass(frozen=True)
class CacheSlots:
    """Where the rows of one step go: sample and slot of every packed row, int64[T]."""

    sample_T: Tensor
    slot_T: Tensor
    longest: int

    @classmethod
    def behind(cls, past: tuple[int, ...], new: tuple[int, ...], device: torch.device) -> CacheSlots:
        """`new` rows per sample behind `past` ones."""
        sample = np.repeat(np.arange(len(new)), new)
        slot = np.repeat(past, new) + contiguous_positions(new)
        longest = max(p + n for p, n in zip(past, new, strict=True))
        return cls(torch.from_numpy(sample).to(device), torch.from_numpy(slot).to(device), longest)
