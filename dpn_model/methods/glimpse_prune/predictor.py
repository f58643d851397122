"""GlimpsePrune's two modules: the glimpse, and the predictor that reads what it looked at (arXiv 2508.01548).

Shape letters: I pictures, V visual tokens of one picture, N heads of the decoder, C width of the tower, W width of the
predictor, L layers (of the decoder up to the site; of the predictor), D model width, H head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from dpn_model.methods.contract import Rider


class Glimpse(Rider):
    """An embedding per layer, all through one projection and norm; without the dropout of the authors' training."""

    def __init__(self, layers: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_LD = nn.Parameter(torch.empty(layers, hidden_size))
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.RMSNorm(hidden_size, eps=1e-6)

    def reset_parameters(self) -> None:
        """As the authors."""
        nn.init.normal_(self.embedding_LD, std=0.02)
        begin(self)

    def forward(self) -> Tensor:
        """float[L, D]."""
        embedded: Tensor = self.norm(self.projection(self.embedding_LD))
        return embedded


class Predictor(nn.Module):
    """A layer per level of the tower over a picture's tokens, which begin as what the glimpse's heads look at.

    Args:
        decoder_heads: N.
        vision_size: C.
        levels: L.
        width, heads: as in the settings.
    """

    def __init__(self, decoder_heads: int, vision_size: int, levels: int, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.Linear(decoder_heads, width)
        self.levels = nn.ModuleList(nn.Linear(vision_size, width) for _ in range(levels))
        self.layers = nn.ModuleList(ConditionedLayer(width, heads) for _ in range(levels))
        self.votes = nn.ModuleList(nn.Linear(width, 1) for _ in range(levels))

    def reset_parameters(self) -> None:
        """As the authors."""
        begin(self)

    def forward(self, attention_IVN: Tensor, levels: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        """float32[L, I, V]: logits behind every layer; the last layer's decide, all of them learn.

        Args:
            attention_IVN: logarithms of the glimpse's attention weights.
            levels: float[I, V, C] of the tower, one for each layer.
            grid: height and width of the pictures, whose tokens are row-major.
        """
        hidden_IVW, found = self.attention(attention_IVN), []
        for read, level_IVC, layer, vote in zip(self.levels, levels, self.layers, self.votes, strict=True):
            hidden_IVW = layer(hidden_IVW, read(level_IVC), grid)
            found.append(vote(hidden_IVW)[:, :, 0].float())
        return torch.stack(found)


class ConditionedLayer(nn.Module):
    """A transformer layer, norms in front; queries and keys see what the tower says of a token beside its state."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_ffn = (nn.RMSNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key = (nn.Linear(2 * width, 2 * width, bias=False) for _ in range(2))
        self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.gate, self.up, self.down = (nn.Linear(*ends) for ends in ((width, 2 * width),) * 2 + ((2 * width, width),))

    def forward(self, hidden_IVW: Tensor, level_IVW: Tensor, grid: tuple[int, int]) -> Tensor:
        """float[I, V, W]."""
        normed = self.norm_attention(hidden_IVW)
        beside = torch.cat([normed, level_IVW], dim=2)
        query, key, value = (
            tensor.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for tensor in (self.query(beside), self.key(beside), self.value(normed))
        )
        turns_VH = turns_of(grid, query.shape[3]).to(query.device)
        out = scaled_dot_product_attention(turned(query, turns_VH), turned(key, turns_VH), value)
        hidden_IVW = hidden_IVW + self.out(out.transpose(1, 2).flatten(2))
        normed = self.norm_ffn(hidden_IVW)
        grown: Tensor = hidden_IVW + self.down(silu(self.gate(normed)) * self.up(normed))
        return grown


def turns_of(grid: tuple[int, int], width: int) -> Tensor:
    """float32[V, H / 2]: angles of two-dimensional rotary positions, as in Qwen2.5-VL's tower: rows, then columns."""
    frequencies = 10000.0 ** -(torch.arange(0, width // 2, 2) / (width // 2))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.cat([axis.reshape(-1, 1) * frequencies for axis in (rows, columns)], dim=1)


def turned(heads_INVH: Tensor, turns_VH: Tensor) -> Tensor:
    """Pairs of numbers, half a head apart, turned by their angles."""
    first, second = heads_INVH.float().chunk(2, dim=-1)
    cos, sin = turns_VH.cos(), turns_VH.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(heads_INVH.dtype)


def begin(module: nn.Module) -> None:
    """Matrices Xavier, biases zero, norms one."""
    for one in module.modules():
        if isinstance(one, nn.Linear):
            nn.init.xavier_uniform_(one.weight)
            if one.bias is not None:
                nn.init.zeros_(one.bias)
        elif isinstance(one, nn.RMSNorm):
            one.reset_parameters()
