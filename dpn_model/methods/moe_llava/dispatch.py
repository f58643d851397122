"""Which experts a token runs through, and how it is weighed (GShard's top-2, as in the authors' expert library).

Shape letters: T tokens, E experts, K experts per token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def choose(gates_TE: Tensor, top_k: int, *, is_noisy: bool = False) -> Tensor:
    """int64[T, K]: experts in order of their gates; of equal ones, the first.

    Args:
        gates_TE: float[T, E], softmax of the router.
        top_k: K.
        is_noisy: Gumbel noise from torch's generator decides all choices but the first.
    """
    first_TE = gates_TE.detach()
    if is_noisy:
        noise_TE = -torch.empty_like(first_TE).exponential_().log()
        rest_TE = (first_TE.log() + noise_TE).softmax(dim=-1)  # below 1
        best_T1 = first_TE.sort(dim=-1, descending=True, stable=True).indices[:, :1]
        first_TE = rest_TE.scatter(1, best_T1, 2.0)
    return first_TE.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]


def capacity_of(tokens: int, experts: int, factor: float, top_k: int) -> int:
    """Tokens that one expert takes of `tokens`."""
    return math.ceil(tokens / experts * factor * top_k)


def within_capacity(index_TK: Tensor, lengths: Sequence[int], experts: int, factor: float) -> Tensor:
    """bool[T, K]: which choices find room; first choices come before second ones, earlier tokens before later ones.

    Args:
        index_TK: chosen experts.
        lengths: tokens per sample; every sample has a capacity of its own, so that none depends on its neighbours.
        experts: E.
        factor: c.
    """
    found = []
    for chosen_TK in index_TK.split(list(lengths)):
        tokens, top_k = chosen_TK.shape
        taken = torch.nn.functional.one_hot(chosen_TK.T.reshape(-1), experts)
        place = (taken.cumsum(dim=0) * taken).sum(dim=1)  # from 1 on, in the queue of its expert
        found.append((place <= capacity_of(tokens, experts, factor, top_k)).view(top_k, tokens).T)
    return torch.cat(found)


def weights_of(gates_TE: Tensor, index_TK: Tensor, kept_TK: Tensor | None = None) -> Tensor:
    """float[T, K]: weights of the chosen experts, 0 where there was no room; of several, their sum is 1."""
    chosen_TK = gates_TE.gather(1, index_TK)
    chosen_TK = chosen_TK if kept_TK is None else chosen_TK * kept_TK
    if index_TK.shape[1] == 1:  # a single expert's gate must reach the loss
        return chosen_TK
    return chosen_TK / chosen_TK.sum(dim=1, keepdim=True).clamp_min(torch.finfo(gates_TE.dtype).eps)


def balance_loss(gates_TE: Tensor, first_T: Tensor) -> Tensor:
    """E² times the mean over experts of mean gate and share of first choices: 1 where tokens are spread evenly."""
    experts = gates_TE.shape[1]
    share_E = torch.bincount(first_T, minlength=experts).to(gates_TE.dtype) / max(1, len(first_T))
    return experts**2 * (gates_TE.mean(dim=0) * share_E).mean()
