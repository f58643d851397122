"""Which tokens a masked copy keeps in a layer, in a form that lets the schedule learn.

A straight-through mask: 1 or 0 forward, the gradient of a soft threshold backward. The threshold is among ranks, in
shares of the picture's tokens, so that its temperature means the same whatever attention's scale is.

Shape letters: V visual tokens of one picture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: what is left of a dropped row in attention: nothing in effect, but what it would add keeps a gradient
LEFT = 1e-6
#: more than any attention weight: a row that was dropped ranks behind every other
_DROPPED = 2.0


def ranks_of(score_V: Tensor, is_kept_V: Tensor) -> Tensor:
    """int64[V]: 0 for the best; of equal ones the first is better. What was dropped before comes last."""
    order_V = (score_V.detach() - _DROPPED * ~is_kept_V).sort(descending=True, stable=True).indices
    return torch.empty_like(order_V).index_copy(0, order_V, torch.arange(len(order_V), device=order_V.device))


def straight_through_mask(rank_V: Tensor, share: Tensor, count: int, temperature: float) -> Tensor:
    """float32[V]: 1 for the best `count`, else 0; the gradient of sigmoid((share - place) / temperature).

    Args:
        rank_V: int64[V], 0 for the best.
        share: float32 scalar, of the tokens that are to be kept.
        count: the same as a number of tokens.
        temperature: in shares.
    """
    place_V = (rank_V.float() + 0.5) / len(rank_V)
    soft_V = torch.sigmoid((share - place_V) / temperature)
    return (rank_V < count).float() + (soft_V - soft_V.detach())


def bias_of(mask_V: Tensor) -> Tensor:
    """float32[V]: what a mask of ones and zeros adds to scores, so that rows weigh as much as there is of them.

    Backward, a dropped row's gradient is at most as large as the largest of a kept one. A row that takes most of the
    attention once it is back has a slope at 0 without bound (measured on a trained base: 10^5 times that of the rest),
    while what it can do to the loss is of the size of what others do.
    """
    bias_V: Tensor = _Bias.apply(mask_V)
    return bias_V


class _Bias(torch.autograd.Function):
    """log((m + LEFT) / (1 + LEFT)), whose gradient is 1 / (m + LEFT), bounded where m is 0."""

    @staticmethod
    def forward(context: Any, mask_V: Tensor) -> Tensor:
        context.save_for_backward(mask_V > 0.5)
        return ((mask_V + LEFT) / (1 + LEFT)).log()

    @staticmethod
    def backward(context: Any, slope_V: Tensor) -> Tensor:
        (is_kept_V,) = context.saved_tensors
        most = (slope_V.abs() * is_kept_V).max()
        return torch.where(is_kept_V, slope_V, (slope_V / LEFT).clamp(-most, most))
