"""Density peaks: dropped tokens become the means of a few clusters (arXiv 2410.04417, section 3.4).

The authors add random noise to densities, so that no two are equal; here the first of equal ones, the token that ranks
higher, counts as the denser, and results repeat.

Shape letters: N points, K clusters, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def density_peaks(points_ND: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Clusters around points that are dense and far from denser ones.

    Args:
        points_ND: any floats.
        count: K, at most N.

    Returns:
        int64[K], the centres, the clearest first; int64[N], the cluster of every point, a centre's being its own.
    """
    points = points_ND.float() - points_ND.float().mean(dim=0)
    norm_N = points.square().sum(dim=1)
    square_NN = (norm_N[:, None] + norm_N - 2 * points @ points.T).clamp(min=0).fill_diagonal_(0) / points.shape[1]
    distance_NN = square_NN.sqrt()
    density_N = (-square_NN.sort(dim=1).values[:, :count].mean(dim=1)).exp()
    number_N = torch.arange(len(points), device=points.device)
    is_denser_NN = (density_N > density_N[:, None]) | (
        (density_N == density_N[:, None]) & (number_N < number_N[:, None])
    )
    apart_N = torch.where(is_denser_NN, distance_NN, distance_NN.max()).amin(dim=1)
    centre_K = (apart_N * density_N).sort(descending=True, stable=True).indices[:count]
    cluster_N = distance_NN[centre_K].argmin(dim=0)
    cluster_N[centre_K] = number_N[:count]
    return centre_K, cluster_N
