"""VisPCO's predictor: from the embeddings of a prompt and a budget to the layer and the ratio of a schedule.

The authors' layers by their widths. Norms, GELU, the blocks' linear ways past and a head that begins at 0 are ours:
embeddings of words and pictures differ much in size, and a sigmoid that saturates early learns no more.

Shape letters: B samples with a picture, R rows that are read, H model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from dpn_model.methods.vispco.spec import predictor_widths


class Predictor(nn.Module):
    """Embeddings to k and r, one of each for a sample."""

    def __init__(self, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        half, quarter, eighth = predictor_widths(hidden_size)
        self.num_layers = num_layers
        self.entry_norm = nn.LayerNorm(hidden_size)
        self.entry = nn.Linear(hidden_size, half)
        self.blocks = nn.ModuleList([Residual(half, quarter), Residual(quarter, eighth)])
        self.mean_norm = nn.LayerNorm(eighth)
        self.budget_hidden = nn.Linear(1, eighth)
        self.budget_film = nn.Linear(eighth, 2 * eighth)
        self.head_hidden = nn.Linear(eighth, eighth)
        self.head = nn.Linear(eighth, 2)

    def reset_parameters(self) -> None:
        """k begins at half of the layers, r at a half."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.LayerNorm)):
                module.reset_parameters()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows_RH: Tensor, lengths: Sequence[int], budgets_B1: Tensor) -> Tensor:
        """Predict.

        Args:
            rows_RH: embeddings of the samples, end to end.
            lengths: rows of each.
            budgets_B1: float[B, 1].

        Returns:
            float32[B, 2]: k in layers, between 0 and all, and r between 0 and 1.
        """
        features = self.entry(self.entry_norm(rows_RH))
        for block in self.blocks:
            features = block(features)
        # FiLM is one scale and one shift for all rows of a sample, so their mean may come first.
        means = [rows.mean(dim=0) for rows in features.split(list(lengths))] if len(lengths) else []
        features = self.mean_norm(torch.stack(means) if means else features)
        scale, shift = self.budget_film(gelu(self.budget_hidden(budgets_B1))).chunk(2, dim=-1)
        logits_B2 = self.head(gelu(self.head_hidden(features * (1 + scale) + shift)))
        ends = logits_B2.new_tensor([self.num_layers, 1], dtype=torch.float32)
        return logits_B2.float().sigmoid() * ends


class Residual(nn.Module):
    """float[R, before] to float[R, after]: two linear layers, and one past them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(before)
        self.first = nn.Linear(before, after)
        self.second = nn.Linear(after, after)
        self.past = nn.Linear(before, after)

    def forward(self, rows: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.past(rows) + self.second(gelu(self.first(self.norm(rows))))
        return out


class Multiplier(nn.Module):
    """w of the augmented Lagrangian, as a weight: it is averaged over ranks, stored and resumed as any other."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.weight = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """It begins at 0."""
        nn.init.zeros_(self.weight)

    def forward(self) -> Tensor:
        """float32[1]: the weight, which `speed` makes w of."""
        return self.weight.float() * 1
