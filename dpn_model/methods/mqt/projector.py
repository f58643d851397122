"""MQT-LLaVA's resampler, and the selector behind it that keeps the first rows (spec peer-methods 9).

How many tokens a picture has must be known before the tower runs, so all queries are projected, and the first m of
them go on. A query never looks at the others: the first m are what m queries alone would give.

Shape letters: I images, P patches of one image, V queries, C width of the tower, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dpn_model.methods.contract import Host, Parts, Selector
from dpn_model.methods.mqt.spec import HEAD_SIZE, MqtSettings
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.projecting.layers import (
    CrossAttention,
    SizedProjector,
    draw_small,
    resized,
    sines_and_cosines,
)
from dpn_model.methods.projecting.settings import Sizes, heads_of
from dpn_model.methods.rows import ImageRows
from dpn_model.methods.settings import kept_count
from dpn_model.packing import ImageSpan


def build(settings: MqtSettings, host: Host) -> Parts:
    """A projector, and a selector behind it."""
    return Parts(projector=MatryoshkaQueries(settings, Sizes.of(host.shape)), selector=FirstQueries(settings))


class MatryoshkaQueries(SizedProjector):
    """One layer of cross-attention as wide as the tower, then a free matrix."""

    positions_VC: Tensor

    def __init__(self, settings: MqtSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width = sizes.vision_size
        self.has_content_keys = settings.content_keys
        self.register_buffer("positions_VC", sines_and_cosines(*self.tokens, width), persistent=False)
        self.queries_VC = nn.Parameter(torch.zeros(math.prod(self.tokens), width))
        self.norm_query, self.norm_key, self.norm_value = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = CrossAttention(width, heads_of(settings.heads, width, HEAD_SIZE))
        self.matrix_CD = nn.Parameter(torch.zeros(width, sizes.hidden_size))

    def draw(self) -> None:
        """As the authors."""
        draw_small(self)
        nn.init.trunc_normal_(self.queries_VC, std=0.02)
        nn.init.normal_(self.matrix_CD, std=self.matrix_CD.shape[1] ** -0.5)

    def forward(self, features_IPC: Tensor, height: int, width: int) -> Tensor:
        """float[I, P, C] to float[I, V, D]."""
        places_PC = resized(self.positions_VC[None], self.tokens, (height, width), "bicubic")[0]
        keys_IPC = features_IPC + places_PC if self.has_content_keys else places_PC.expand_as(features_IPC)
        query_IVC = self.norm_query(self.queries_VC + self.positions_VC).expand(len(features_IPC), -1, -1)
        out: Tensor = self.attention(query_IVC, self.norm_key(keys_IPC), self.norm_value(features_IPC))
        return out @ self.matrix_CD


class FirstQueries(Selector):
    """Keeps the first tokens of every picture: as many as set, or in training an even number drawn for the call."""

    def __init__(self, settings: MqtSettings) -> None:
        super().__init__()
        self.keep, self.is_elastic = settings.keep, settings.elastic

    def forward(self, tokens_VD: Tensor, images: Sequence[ImageSpan], probe: VisionProbe) -> list[ImageRows]:
        """The same count for all pictures of the call."""
        if not images:
            return []
        queries = images[0].num_tokens
        count = kept_count(self.keep, queries)
        if self.training and self.is_elastic and queries > 1:
            count = 2 * int(torch.randint(1, queries // 2 + 1, ()))
        return [ImageRows.kept(np.arange(count)) for _ in images]
