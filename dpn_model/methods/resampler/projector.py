"""Layers of both resamplers (spec peer-methods 4.4).

Shape letters: I images, P patches of one image, V queries, C width of the tower, W width of the attention, D model
width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from dpn_model.methods.contract import Host, Parts
from dpn_model.methods.projecting.layers import (
    CrossAttention,
    SizedProjector,
    draw_small,
    resized,
    sines_and_cosines,
)
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.resampler.spec import FFN_FACTOR, ResamplerSettings


def build(settings: ResamplerSettings, host: Host) -> Parts:
    """One projector."""
    kind = QwenResampler if settings.variant == "qwen" else HoneybeeResampler
    return Parts(projector=kind(settings, Sizes.of(host.shape)))


class QwenResampler(SizedProjector):
    """One layer of cross-attention: no residual, no FFN; queries and patches have fixed positions."""

    positions_VW: Tensor

    def __init__(self, settings: ResamplerSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width = settings.width_of(sizes)
        height, across = self.tokens
        self.register_buffer("positions_VW", sines_and_cosines(height, across, width), persistent=False)
        self.queries_VW = nn.Parameter(torch.zeros(height * across, width))
        self.enter = nn.Linear(sizes.vision_size, width, bias=False)
        self.norm_patches, self.norm_queries, self.norm_out = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = CrossAttention(width, settings.heads_of(sizes))
        self.matrix_WD = nn.Parameter(torch.zeros(width, sizes.hidden_size)) if settings.post_matrix else None

    def draw(self) -> None:
        """As the authors; the free matrix keeps lengths."""
        draw_small(self)
        nn.init.trunc_normal_(self.queries_VW, std=0.02)
        if self.matrix_WD is not None:
            nn.init.normal_(self.matrix_WD, std=self.matrix_WD.shape[1] ** -0.5)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]."""
        patches_IPW = self.norm_patches(self.enter(features_IPC))
        places_PW = resized(self.positions_VW[None], self.tokens, (height, width), "bicubic")[0]
        query_VW = self.norm_queries(self.queries_VW) + self.positions_VW
        query_IVW = query_VW.expand(len(features_IPC), -1, -1)
        out: Tensor = self.norm_out(self.attention(query_IVW, patches_IPW + places_PW, patches_IPW))
        return out if self.matrix_WD is None else out @ self.matrix_WD


class HoneybeeResampler(SizedProjector):
    """Layers of attention and FFN in which the queries look at themselves and at the patches."""

    def __init__(self, settings: ResamplerSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width = settings.width_of(sizes)
        self.queries_VW = nn.Parameter(torch.zeros(self.tokens[0] * self.tokens[1], width))
        self.enter = nn.Linear(sizes.vision_size, width)
        self.layers = nn.ModuleList(HoneybeeLayer(width, settings.heads_of(sizes)) for _ in range(settings.layers))
        self.leave = nn.Linear(width, sizes.hidden_size)

    def draw(self) -> None:
        """Matrices from a normal distribution, queries and biases zero, as the authors."""
        nn.init.zeros_(self.queries_VW)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]."""
        patches_IPW = self.enter(features_IPC)
        rows_IVW = self.queries_VW.repeat(len(features_IPC), 1, 1)
        for layer in self.layers:
            rows_IVW = layer(rows_IVW, patches_IPW)
        tokens: Tensor = self.leave(rows_IVW)
        return tokens


class HoneybeeLayer(nn.Module):
    """Attention and a gated FFN with a norm inside; residuals start behind the first norm, as in the authors' code."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = FFN_FACTOR * width
        self.norm_queries, self.norm_patches, self.norm_ffn = (nn.LayerNorm(width) for _ in range(3))
        self.attention = CrossAttention(width, heads)
        self.gate, self.up, self.down = nn.Linear(width, inner), nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm_inner = nn.LayerNorm(inner, eps=1e-6)

    def forward(self, rows_IVW: Tensor, patches_IPW: Tensor) -> Tensor:
        """float[I, V, W] and float[I, P, W] to float[I, V, W]."""
        rows = self.norm_queries(rows_IVW)
        keys = torch.cat([rows, self.norm_patches(patches_IPW)], dim=1)
        rows = rows + self.attention(rows, keys, keys)
        normed = self.norm_ffn(rows)
        out: Tensor = rows + self.down(self.norm_inner(silu(self.gate(normed)) * self.up(normed)))
        return out
