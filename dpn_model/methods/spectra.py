"""Spectra of matrices: how many singular values hold how much of the energy, from the smaller Gram matrix.

Shape letters: I matrices, V rows, C columns, R = min(V, C) singular values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def energies(rows_IVC: Tensor) -> Tensor:
    """float64[I, R], descending: squares of singular values.

    The Gram matrix is formed in float32 and decomposed in float64, so that its rounding alone tells runs apart.
    """
    rows = rows_IVC.detach().float()
    gram = rows @ rows.mT if rows.shape[1] <= rows.shape[2] else rows.mT @ rows
    return torch.linalg.eigvalsh(gram.double()).flip(-1).clamp(min=0)


def gram_macs(rows: int, columns: int) -> int:
    """Multiply-accumulates of `energies` on one matrix; its decomposition counts nothing."""
    return min(rows, columns) ** 2 * max(rows, columns)


def values_holding(energies_IR: Tensor, share: float) -> Tensor:
    """int64[I]: the fewest largest values that hold `share` of the energy; 1 where there is none."""
    sums_IR = energies_IR.cumsum(dim=1)
    needed_I1 = share * sums_IR[:, -1:] * (1 - 1e-12)
    return ((sums_IR < needed_I1).sum(dim=1) + 1).clamp(max=energies_IR.shape[1])
