"""Where UPN's queries begin and how their boxes move: anchors, the best of the encoder's rows, sine embeddings.

Shape letters: B pictures, S rows of all levels, Q queries, D width, H x W a level's cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: side of an anchor on the finest level, as a share of the picture; it doubles from level to level
ANCHOR_SIDE = 0.05
#: anchors with a coordinate nearer to 0 or 1 are none
EDGE = 0.01
#: boxes are moved as logits, which end here
EPS = 1e-3
PICTURE_TEMPERATURE, QUERY_TEMPERATURE = 20, 10000


def logits_of(boxes: Tensor) -> Tensor:
    """The inverse of the sigmoid, for boxes in 0..1; both ends are cut at `EPS`."""
    boxes = boxes.clamp(0, 1)
    return torch.log(boxes.clamp(min=EPS) / (1 - boxes).clamp(min=EPS))


def anchors(shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """A box around every cell of every level.

    Args:
        shapes: (H, W) of the levels, the finest first.

    Returns:
        float32[S, 4], (cx, cy, w, h) as logits, and bool[S], which of them lie inside; the others' logits are infinite.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = torch.stack([(x + 0.5) / width, (y + 0.5) / height], dim=-1).reshape(-1, 2)
        levels.append(torch.cat([centres, torch.full_like(centres, ANCHOR_SIDE * 2**level)], dim=-1))
    boxes = torch.cat(levels)
    is_inside = ((boxes > EDGE) & (boxes < 1 - EDGE)).all(-1)
    return torch.log(boxes / (1 - boxes)).masked_fill(~is_inside[:, None], math.inf), is_inside


def best_rows(scores_BS: Tensor, count: int) -> Tensor:
    """int64[B, Q]: the encoder's rows that queries begin at; all of them where there are fewer than `count`."""
    return scores_BS.topk(min(count, scores_BS.shape[1]), dim=1).indices


def picture_embedding(height: int, width: int, dim: int) -> Tensor:
    """float32[H * W, D]: sines of the cells' numbers as shares of a whole turn, rows' half first."""
    rows = (torch.arange(height) + 1.0) / (height + 1e-6)
    columns = (torch.arange(width) + 1.0) / (width + 1e-6)
    y = _sines(rows, dim // 2, PICTURE_TEMPERATURE)[:, None].expand(height, width, -1)
    x = _sines(columns, dim // 2, PICTURE_TEMPERATURE)[None].expand(height, width, -1)
    return torch.cat([y, x], dim=-1).reshape(height * width, dim)


def query_embedding(boxes_BQ4: Tensor, dim: int) -> Tensor:
    """float32[B, Q, 2 D]: sines of y, x, w, h in this order, half a width for each."""
    x, y, w, h = (_sines(coordinate, dim // 2, QUERY_TEMPERATURE) for coordinate in boxes_BQ4.unbind(-1))
    return torch.cat([y, x, w, h], dim=-1)


def _sines(shares: Tensor, dim: int, temperature: float) -> Tensor:
    """[..., dim]: sine and cosine in turn of a share of a whole turn, at falling frequencies."""
    pairs = torch.arange(dim, device=shares.device) // 2
    angles = shares[..., None] * 2 * math.pi / temperature ** (2 * pairs / dim)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], dim=-1).flatten(-2)
