"""LLaVA-Mini's projector: a picture's patches, and behind them side x side tokens that queries draw from the patches.

Shape letters: I images, P patches, Q queries, C width of the tower, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpn_model.methods.llava_mini.spec import HEADS, LlavaMiniSettings
from dpn_model.methods.projecting.layers import (
    CrossAttention,
    SizedProjector,
    resized,
    sines_and_cosines,
    two_layers,
)
from dpn_model.methods.projecting.settings import Sizes


class MiniProjector(SizedProjector):
    """LLaVA's MLP over patches and what is compressed of them: 1 x (P + Q) tokens."""

    def __init__(self, settings: LlavaMiniSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.compressor = Compressor(sizes.vision_size, settings.side)
        self.mlp = two_layers(sizes.vision_size, sizes.hidden_size)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, P + Q, D]."""
        projected: Tensor = self.mlp(torch.cat([features_IPC, self.compressor(features_IPC, height, width)], dim=1))
        return projected


class Compressor(nn.Module):
    """Cross attention of learned queries; both sides have two-dimensional sine positions. No residual, no FFN."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.query_QC = nn.Parameter(torch.empty(side**2, width))
        self.norm_queries, self.norm_keys = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CrossAttention(width, HEADS)

    def reset_parameters(self) -> None:
        """Queries N(0, 0.02), attention as PyTorch's: Xavier for its three inputs as one matrix, biases zero."""
        nn.init.normal_(self.query_QC, std=0.02)
        bound = (6 / (4 * self.query_QC.shape[1])) ** 0.5
        for projection in (self.attention.query, self.attention.key, self.attention.value):
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, Q, C]. Patches have the queries' positions, resized as a picture would be."""
        positions_QC = sines_and_cosines(self.side, self.side, features_IPC.shape[2]).to(features_IPC)
        positions_PC = resized(positions_QC[None], (self.side, self.side), (height, width), "bicubic")
        normed_IPC = self.norm_keys(features_IPC)
        query_QC = self.norm_queries(self.query_QC) + positions_QC
        compressed: Tensor = self.attention(
            query_QC.expand(len(features_IPC), -1, -1), normed_IPC + positions_PC, normed_IPC
        )
        return compressed
