"""Mixture-of-resolution adapter and final merge of LLaVA-HR (spec base-models C.1).

Shape letters: I images, C_f channels of the fast (low-resolution) tower, C_s of the slow (high-resolution) one,
h, w the grid of visual tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

GATE_WIDTH = 512


def align_grid(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """float[I, C, h, w] on another grid: averaged where it is finer, bilinear (corners aligned) where it is coarser.

    Raises:
        ValueError: neither grid is a whole multiple of the other.
    """
    height, width = features.shape[-2:]
    if (height, width) == grid:
        return features
    if height % grid[0] == 0 and width % grid[1] == 0:
        return avg_pool2d(features, (height // grid[0], width // grid[1]))
    if grid[0] % height == 0 and grid[1] % width == 0:
        return interpolate(features, size=grid, mode="bilinear", align_corners=True)
    raise ValueError(
        f"the slow tower's {height}x{width} grid does not fit the fast tower's {grid[0]}x{grid[1]}; "
        "one must be a whole multiple of the other (choose another image_size)"
    )


class MixtureOfResolutionAdapter(nn.Module):
    """Adds the slow tower's features to the fast tower's, by a gate of one scalar per image. Identity when fresh."""

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.slow_conv = nn.Conv2d(slow_width, slow_width, 1)
        self.slow_proj = nn.Conv2d(slow_width, fast_width, 1)
        self.fast_conv = nn.Conv2d(fast_width, fast_width, 7, padding=3, groups=fast_width)
        self.fast_proj = nn.Conv2d(fast_width, fast_width, 1)
        self.gate = nn.Sequential(nn.Linear(2 * fast_width, GATE_WIDTH), nn.GELU(), nn.Linear(GATE_WIDTH, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the convolutions, zero for both projections: the adapter starts as the identity."""
        for conv in (self.slow_conv, self.fast_conv):
            nn.init.xavier_uniform_(conv.weight)
        for projection in (self.slow_proj, self.fast_proj):
            nn.init.zeros_(projection.weight)
        for module in (self.slow_conv, self.fast_conv, self.slow_proj, self.fast_proj):
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def forward(self, fast: Tensor, slow: Tensor) -> Tensor:
        """float[I, C_f, h, w] and float[I, C_s, h_s, w_s] to float[I, C_f, h, w].

        Raises:
            ValueError: the grids do not fit (`align_grid`).
        """
        detail = self.slow_proj(nn.functional.gelu(self.slow_conv(slow)))
        detail = align_grid(detail, (fast.shape[-2], fast.shape[-1]))
        fast = fast + self.fast_proj(nn.functional.gelu(self.fast_conv(fast)))
        means = torch.cat([fast, detail], dim=1).mean(dim=(2, 3))
        gate = self.gate(means).tanh()[:, :, None, None]
        return fast + gate * detail


class FinalMerge(nn.Module):
    """Sum of one linear map of each tower's features."""

    def __init__(self, fast_width: int, slow_width: int) -> None:
        super().__init__()
        self.fast_proj = nn.Linear(fast_width, fast_width)
        self.slow_proj = nn.Linear(slow_width, fast_width)

    def forward(self, fast: Tensor, slow: Tensor) -> Tensor:
        """float[I, C_f, h, w] and float[I, C_s, h_s, w_s] to tokens float[I, h * w, C_f], row-major."""
        slow = align_grid(slow, (fast.shape[-2], fast.shape[-1]))
        return self.fast_proj(fast.flatten(2).transpose(1, 2)) + self.slow_proj(slow.flatten(2).transpose(1, 2))
