"""The router of eq. 5: routing token -> logits over pooling experts.

Shape letters: B samples with an image, D model width, E experts.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from dpn_model.methods.dpn.router_cost import router_macs, router_width


class Router(nn.Module):
    """LayerNorm, Linear(D, D/4), GELU, Linear(D/4, E), no biases ("v1"); or one Linear(D, E) ("linear"). Spec A.3.

    Args:
        hidden_size: D.
        num_experts: E.
        kind: "v1" or "linear".
        temperature: divides the logits.
        hidden_divisor: v1: its hidden width is D over this.
        init: "release", or "zero" for a last matrix of zeros (exactly uniform probabilities).
    """

    def __init__(
        self,
        hidden_size: int,
        num_experts: int,
        kind: str,
        temperature: float,
        hidden_divisor: int = 4,
        init: str = "release",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.init = init
        #: multiply-accumulates of one decision
        self.macs = router_macs(hidden_size, num_experts, kind, hidden_divisor)
        if kind == "v1":
            width = router_width(hidden_size, hidden_divisor)
            self.mlp1: nn.Module = nn.Sequential(
                nn.LayerNorm(hidden_size), nn.Linear(hidden_size, width, bias=False), nn.GELU()
            )
            self.predictor = nn.Linear(width, num_experts, bias=False)
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
        if self.init == "zero":
            nn.init.zeros_(self.predictor.weight)

    def forward(self, states_BD: Tensor) -> Tensor:
        """float32[B, E]: logits divided by the temperature (softmax is taken in fp32 by the caller)."""
        return self.predictor(self.mlp1(states_BD)).float() / self.temperature
