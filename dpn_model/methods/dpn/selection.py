"""From router logits to one expert per sample: what is feasible, how it is chosen, what gradient the choice carries.

Shape letters: B samples with an image, E experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpn_model.not_finite import NotFiniteError

#: float32 logits per sample and expert, on the host (-inf: not feasible) -> an expert per sample
Pick = Callable[[list[list[float]]], list[int]]


@dataclass(frozen=True)
class Choice:
    """Result of `choose_experts`.

    Attributes:
        log_probs_BE: float32, of the router.
        logits_BE: float32, -inf where not feasible.
        expert_B: int64, and the same on the host.
        gate_B: 1 in value; its gradient is the straight-through one of Gumbel selection. None for other selections.
    """

    log_probs_BE: Tensor
    logits_BE: Tensor
    expert_B: Tensor
    experts: tuple[int, ...]
    gate_B: Tensor | None = None

    @property
    def probs_BE(self) -> Tensor:
        """float32[B, E]."""
        return self.log_probs_BE.exp()


def choose_experts(
    logits_BE: Tensor,
    feasible_BE: Tensor,
    selection: str,
    *,
    renormalise: bool = True,
    pick: Pick | None = None,
    forced: Sequence[int] | None = None,
    exploration: float = 0.0,
) -> Choice:
    """One feasible expert per sample.

    Args:
        logits_BE: float[B, E].
        feasible_BE: bool[B, E], experts that leave every image enough tokens; at least one per sample.
        selection: "sample" draws from the probabilities (torch's generator), "gumbel" too, with a straight-through
            gradient; "top1" takes the largest.
        renormalise: probabilities over the feasible experts; otherwise over all, of which only feasible ones are taken.
        pick: decides in the place of `selection`; probabilities stay the router's.
        forced: an expert for every sample, whatever the router says.
        exploration: share of the decisions that are drawn from all feasible experts alike.

    Raises:
        NotFiniteError: a logit is NaN or infinite.
    """
    is_bad_B = ~torch.isfinite(logits_BE).all(dim=1)
    logits_BE = logits_BE.masked_fill(is_bad_B[:, None], 0)  # a multinomial over NaN would stop a CUDA device
    masked_BE = logits_BE.masked_fill(~feasible_BE, -math.inf)
    log_probs_BE = (masked_BE if renormalise else logits_BE).log_softmax(dim=-1)
    scores_BE = masked_BE
    if forced is None and selection == "sample":
        expert_B = torch.multinomial(masked_BE.detach().softmax(dim=-1), 1).squeeze(1)
    else:
        if selection == "gumbel":
            scores_BE = masked_BE - torch.empty_like(masked_BE).exponential_().log()
        expert_B = scores_BE.argmax(dim=-1)
    if forced is not None:
        expert_B = torch.tensor(forced, device=expert_B.device)
    elif exploration:
        any_B = torch.multinomial(feasible_BE.float(), 1).squeeze(1)
        expert_B = torch.where(torch.rand(len(any_B), device=any_B.device) < exploration, any_B, expert_B)
    gate_B = None
    if selection == "gumbel":
        soft_B = scores_BE.softmax(dim=-1).gather(1, expert_B[:, None]).squeeze(1)
        gate_B = 1 + soft_B - soft_B.detach()
    if pick is None or forced is not None:
        experts = tuple(expert_B.masked_fill(is_bad_B, -1).tolist())  # the one device-to-host copy of a site
        _check_finite([expert < 0 for expert in experts])
    else:
        rows = masked_BE.masked_fill(is_bad_B[:, None], math.nan).tolist()  # here this is the one
        _check_finite([math.isnan(row[0]) for row in rows])
        experts = tuple(pick(rows))
        expert_B = torch.tensor(experts, device=logits_BE.device)
    return Choice(log_probs_BE, masked_BE, expert_B, experts, gate_B)


def _check_finite(is_bad: list[bool]) -> None:
    if any(is_bad):
        raise NotFiniteError("router_logits", [place for place, bad in enumerate(is_bad) if bad])
