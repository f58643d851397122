"""What a ConvNeXt costs and what grid it leaves, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any


def slow_stride(config: Any) -> int:
    """Pixels per side of one cell of ConvNeXt's last stage: the stem's patch, doubled by every later stage."""
    return int(config.patch_size) * 2 ** (len(config.depths) - 1)


def convnext_macs(stages: Sequence[tuple[int, int]], image_size: int) -> int:
    """One image through a ConvNeXt of `stages`, each (blocks, channels).

    A stem of stride 4, stages with stride 2 between, 7x7 depthwise convolutions and a 4x MLP.
    """
    side = image_size // 4
    total = side**2 * 4 * 4 * 3 * stages[0][1]
    for blocks, channels in stages:
        total += blocks * side**2 * (7 * 7 * channels + 8 * channels**2)
        side //= 2
    side = image_size // 4
    for (_, before), (_, after) in pairwise(stages):
        side //= 2
        total += side**2 * 2 * 2 * before * after
    return total
