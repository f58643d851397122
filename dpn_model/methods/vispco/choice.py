"""What the predictor chose for a sample, as sites and losses read it (`PackedSequence.passages`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpn_model.methods.vispco.schedule import STEEPNESS, budget_tokens, fitted_counts, predicted_counts


@dataclass(frozen=True)
class Choice:
    """A schedule.

    Attributes:
        predicted_2: float32[2], k and r with their gradients.
        layer, ratio: the same on the host.
        budget: b it was made for.
        num_layers: of the decoder.
        tokens: of the sample's pictures together, as they entered the decoder.
        multiplier: float32[1], the weight behind w.
    """

    predicted_2: Tensor
    layer: float
    ratio: float
    budget: float
    num_layers: int
    tokens: int
    multiplier: Tensor

    def count(self, site: int, tokens: int, *, is_fitted: bool) -> int:
        """Tokens of a picture of `tokens` that are left behind layer `site` (1-based)."""
        if is_fitted:
            return fitted_counts(self.layer, self.budget, self.num_layers, tokens)[site]
        return predicted_counts(self.layer, self.ratio, self.num_layers, tokens)[site]

    def share(self, site: int) -> Tensor:
        """float32 scalar: r_i of the layer behind layer `site` (1-based)."""
        layer, ratio = self.predicted_2
        return 1 + (ratio - 1) * torch.sigmoid(STEEPNESS * (site - layer))

    def gap(self) -> Tensor:
        """float32 scalar: c, target less cost, shares of the pictures' tokens; the target is one that can be met."""
        layer, ratio = self.predicted_2
        sites = torch.arange(1, self.num_layers, device=layer.device)
        spared = (1 - ratio) * torch.sigmoid(STEEPNESS * (sites - layer)).sum() / self.num_layers
        target = budget_tokens(self.budget, self.num_layers, self.tokens) / (self.tokens * self.num_layers)
        return target - (1 - spared)
