"""TokenPacker's layers (spec peer-methods 4.7).

Shape letters: I images, P patches of one image, V tokens of one image after, S cells of a block, L levels, C width of
the tower, W width of the attention, D model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.projecting.layers import (
    CrossAttention,
    SizedProjector,
    blocks,
    draw_small,
    resized,
    two_layers,
)
from dpn_model.methods.projecting.settings import Sizes, heads_of
from dpn_model.methods.tokenpacker.spec import DEPTHS, HEAD_SIZE, TokenPackerSettings


def build(settings: TokenPackerSettings, host: Host) -> Parts:
    """One projector."""
    return Parts(projector=TokenPacker(settings, Sizes.of(host.shape)))


class TokenPacker(SizedProjector):
    """A query per block, from the last level's coarse grid; keys and values from all levels, the block's alone."""

    def __init__(self, settings: TokenPackerSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.levels = sizes.levels(settings.levels, DEPTHS)
        self.scale, self.vision_size, self.has_residual = settings.scale, sizes.vision_size, settings.query_residual
        width = settings.width_of(sizes)
        self.query = nn.Linear(sizes.vision_size, width, bias=False)
        self.key, self.value = (two_layers(len(self.levels) * sizes.vision_size, width) for _ in range(2))
        self.norm_query, self.norm_key, self.norm_value = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = CrossAttention(width, heads_of(settings.heads, width, HEAD_SIZE))
        self.mlp = two_layers(width, sizes.hidden_size)

    def draw(self) -> None:
        """As the authors."""
        draw_small(self)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, L * C] to float[I, V, D]."""
        seeds_IVC = resized(features_IPC[:, :, -self.vision_size :], (height, width), self.tokens, "bilinear")
        query_IVW = self.norm_query(self.query(seeds_IVC))
        grid = (height, width, self.scale)
        key_ISW = blocks(self.norm_key(self.key(features_IPC)), *grid).flatten(0, 1)
        value_ISW = blocks(self.norm_value(self.value(features_IPC)), *grid).flatten(0, 1)
        found = self.attention(query_IVW.flatten(0, 1)[:, None], key_ISW, value_ISW)[:, 0].view_as(query_IVW)
        tokens: Tensor = self.mlp(found + query_IVW if self.has_residual else found)
        return tokens
