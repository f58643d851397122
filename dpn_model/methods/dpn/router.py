"""The router of eq. 5: routing token -> logits over pooling experts.

Shape letters: B samples with an image, D model width, E experts.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.dpn.router_cost import router_macs, router_width
from dpn_model.packing import PackedSequence


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
        #: multiply-accumulates of one decision; not from the weights, which a forward pass must not touch (ZeRO-3)
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

    def forward(self, states_BD: Tensor, temperature: float | None = None) -> Tensor:
        """float32[B, E]: logits divided by the temperature, its own or another (the caller takes softmax in fp32)."""
        return self.predictor(self.mlp1(states_BD)).float() / (temperature or self.temperature)


def router_state(state: PackedSequence, which: str = "mean") -> tuple[Tensor, tuple[int, ...]]:
    """Hidden state of the routing tokens of every sample that has an image (spec A.3).

    Args:
        state: the batch, with at least one image.
        which: of a sample's routing tokens: their "mean", the "first" or the "last" one.

    Returns:
        float[B', D], and the B' sample numbers.

    Raises:
        ValueError: a sample has an image but no routing token.
    """
    with_images = sorted({image.sample for image in state.images})
    sample_R = np.searchsorted(np.cumsum(state.lengths), state.router_rows_R, side="right")
    counts_B = np.bincount(sample_R, minlength=state.num_samples)
    if counts_B[with_images].min() == 0:
        raise ValueError(
            "a sample with an image holds no <ROUTER> token; encode prompts with router=True for this method"
        )
    device = state.hidden_TD.device
    ends_B = counts_B.cumsum()[with_images]
    if which != "mean" or counts_B[with_images].max() == 1:
        places_B = ends_B - counts_B[with_images] if which == "first" else ends_B - 1
        rows_B = torch.from_numpy(state.router_rows_R[places_B]).to(device)
        return state.hidden_TD[rows_B], tuple(with_images)
    rows_R, sample_of_R = (torch.from_numpy(array).to(device) for array in (state.router_rows_R, sample_R))
    sums_BD = state.hidden_TD.new_zeros(state.num_samples, state.hidden_TD.shape[1])
    sums_BD = sums_BD.index_add(0, sample_of_R, state.hidden_TD[rows_R])
    counts_B1 = torch.from_numpy(counts_B[with_images, None]).to(device)
    return sums_BD[torch.tensor(with_images, device=device)] / counts_B1, tuple(with_images)
