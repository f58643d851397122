"""Layers of projectors: blocks of a grid, two-layer MLP, cross-attention, positions of sines and cosines.

Shape letters: I images, P patches of one image, V tokens of one image after, S cells of a block, Q queries, K keys,
C width of the tower or of a layer, D model width.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from dpn_model.methods.contract import Projector
from dpn_model.methods.projecting.settings import ProjectorSettings, Sizes


class SizedProjector(Projector):
    """A projector whose grid and cost its settings tell, so that what runs is what was planned.

    Args:
        settings: of the method.
        sizes: of the base.

    Raises:
        ValueError: settings that do not fit the base.
    """

    def __init__(self, settings: ProjectorSettings, sizes: Sizes) -> None:
        super().__init__()
        self._settings, self._sizes = settings, sizes
        self.tokens = settings.grid(sizes)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """As the settings say."""
        return self._settings.grid(replace(self._sizes, height=height, width=width))

    def macs(self, height: int, width: int) -> int:
        """As the settings say."""
        return self._settings.macs(replace(self._sizes, height=height, width=width))

    def reset_parameters(self) -> None:
        """Every layer begins as torch lets it, then `draw` has its say."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and callable(reset):
                reset()
        self.draw()

    def draw(self) -> None:
        """What begins otherwise."""


class CrossAttention(nn.Module):
    """Attention of some rows to others, all four projections with biases.

    They are four modules, not torch's fused one, whose output matrix is read without being run.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query_IQC: Tensor, key_IKC: Tensor, value_IKC: Tensor) -> Tensor:
        """float[I, Q, C], float[I, K, C] twice, to float[I, Q, C]."""
        split = [
            projection(rows).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection, rows in ((self.query, query_IQC), (self.key, key_IKC), (self.value, value_IKC))
        ]
        out: Tensor = self.out(scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return out


def draw_small(module: nn.Module) -> None:
    """Matrices from a cut normal distribution of 0.02, biases zero; inputs of attention as torch's fused matrix has it.

    The authors of Qwen-VL, MQT-LLaVA and TokenPacker begin so: their rule overlooks the fused matrix (spec 4.4, 4.7).
    """
    for one in module.modules():
        if isinstance(one, nn.Linear):
            nn.init.trunc_normal_(one.weight, std=0.02)
            if one.bias is not None:
                nn.init.zeros_(one.bias)
    for one in module.modules():
        if isinstance(one, CrossAttention):
            bound = math.sqrt(6 / (4 * one.query.in_features))  # Xavier of a matrix three times as high as wide
            for projection in (one.query, one.key, one.value):
                nn.init.uniform_(projection.weight, -bound, bound)


def two_layers(width: int, hidden_size: int, activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
    """LLaVA-1.5's projector: matrix, activation, matrix."""
    return nn.Sequential(nn.Linear(width, hidden_size), activation(), nn.Linear(hidden_size, hidden_size))


def blocks(rows_IPC: Tensor, height: int, width: int, side: int) -> Tensor:
    """float[I, P, C] of a row-major grid to float[I, V, S, C]: square blocks in row-major order, so their cells."""
    grid = rows_IPC.unflatten(1, (height // side, side, width // side, side))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def resized(rows_IPC: Tensor, before: tuple[int, int], after: tuple[int, int], mode: str) -> Tensor:
    """float[I, P, C] of one row-major grid on another, in float32, corners not aligned; returned as it came."""
    planes = rows_IPC.float().transpose(1, 2).unflatten(2, before)
    made = interpolate(planes, size=after, mode=mode, align_corners=False)
    return made.flatten(2).transpose(1, 2).to(rows_IPC.dtype)


def sines_and_cosines(height: int, width: int, size: int) -> Tensor:
    """float32[height * width, size]: the first half tells the column, the second the row (spec 4.4).

    Each half is sines then cosines, at frequencies 10000 ** (-2j / (size / 2)).
    """
    frequencies = 10000.0 ** -(torch.arange(size // 4) / (size / 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phases = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=1)
