"""Windows of visual tokens: what becomes of their cells, and new rows out of old ones.

Shape letters: T packed tokens, V windows, K cells of a window, D model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: float[V_out, K, D] window cells and bool[V_out, K] absent cells (None: all are there) -> float[V_out, D]
PoolWindows = Callable[[Tensor, Tensor | None], Tensor]


def max_of_windows(cells_VKD: Tensor, absent_VK: Tensor | None) -> Tensor:
    """Maximum; an absent cell repeats its window's first one."""
    del absent_VK
    return cells_VKD.amax(dim=1)


@dataclass(frozen=True)
class WindowGroup:
    """Windows of one size that are pooled in one call: source rows (-1 absent) and target rows, int64.

    With `weights`, float[V, K], a window becomes the sum of its cells times these, in place of what `pool` makes of it.
    """

    pool: PoolWindows
    rows_VK: np.ndarray
    targets_V: np.ndarray
    weights: Tensor | None = None

    def pooled(self, hidden_TD: Tensor) -> Tensor:
        """float[V, D] of old rows float[T, D]."""
        absent = self.rows_VK < 0
        rows = np.where(absent, self.rows_VK[:, :1], self.rows_VK)
        device = hidden_TD.device
        if self.weights is not None:
            weights_VK = self.weights.to(device, hidden_TD.dtype).masked_fill(torch.from_numpy(absent).to(device), 0)
            return (hidden_TD[torch.from_numpy(rows).to(device)] * weights_VK[:, :, None]).sum(dim=1)
        absent_VK = torch.from_numpy(absent).to(device) if absent.any() else None
        return self.pool(hidden_TD[torch.from_numpy(rows).to(device)], absent_VK)


def pool_rows(hidden_TD: Tensor, first_T: Tensor, groups: Sequence[WindowGroup]) -> Tensor:
    """Old rows to new ones: `first_T`, and where windows have several cells, what is pooled from them."""
    new_TD = hidden_TD[first_T]
    for group in groups:
        targets = torch.from_numpy(group.targets_V).to(hidden_TD.device)
        new_TD = new_TD.index_copy(0, targets, group.pooled(hidden_TD))
    return new_TD
