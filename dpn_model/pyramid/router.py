"""The router of eq. 5: routing token -> probabilities over pooling experts.

Shape letters: B samples with an image, D model width, E experts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Router(nn.Module):
    """LayerNorm, Linear(D, D/4), GELU, Linear(D/4, E), no biases ("v1"); or one Linear(D, E) ("linear"). Spec A.3."""

    def __init__(self, hidden_size: int, num_experts: int, kind: str, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        if kind == "v1":
            self.mlp1: nn.Module = nn.Sequential(
                nn.LayerNorm(hidden_size), nn.Linear(hidden_size, hidden_size // 4, bias=False), nn.GELU()
            )
            self.predictor = nn.Linear(hidden_size // 4, num_experts, bias=False)
        else:
            self.mlp1 = nn.Identity()
            self.predictor = nn.Linear(hidden_size, num_experts, bias=False)

    def reset_parameters(self) -> None:
        """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for every matrix, as in the release (kaiming uniform with a = sqrt 5)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one decision."""
        return sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))

    def forward(self, states_BD: Tensor) -> Tensor:
        """float32[B, E]: logits divided by the temperature (softmax is taken in fp32 by the caller)."""
        return self.predictor(self.mlp1(states_BD)).float() / self.temperature


def choose_experts(logits_BE: Tensor, feasible_BE: Tensor, selection: str) -> tuple[Tensor, Tensor]:
    """Probabilities over the feasible experts, and one expert per sample.

    Args:
        logits_BE: float[B, E].
        feasible_BE: bool[B, E], experts that leave every image enough tokens.
        selection: "sample" or "gumbel" draw from the probabilities (torch's generator), "top1" takes the largest.

    Returns:
        float[B, E] probabilities and int64[B] chosen experts.

    Raises:
        ValueError: a logit is NaN, or a sample has no feasible expert.
    """
    if torch.isnan(logits_BE).any():
        raise ValueError("router_logits hold NaN; the hidden states of the routing token have diverged")
    if not feasible_BE.any(dim=1).all():
        raise ValueError("no expert leaves a sample's image enough tokens; add 1x1 or lower min_tokens")
    probs_BE = logits_BE.masked_fill(~feasible_BE, -math.inf).softmax(dim=-1)
    if selection == "sample":
        return probs_BE, torch.multinomial(probs_BE.detach(), 1).squeeze(1)
    if selection == "gumbel":
        noise = -torch.empty_like(probs_BE).exponential_().log()
        return probs_BE, (probs_BE.detach().log() + noise).argmax(dim=-1)
    return probs_BE, probs_BE.argmax(dim=-1)
