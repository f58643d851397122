"""What LLaVA-HR costs: ConvNeXt and CLIP at 1024 px, joined by adapters, give 32x32 visual tokens.

Convolutions and linear layers are counted; resizing, norms and means are not (spec base-models C.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dpn_model.cost import ModelShape, mlp2x_macs, vit_macs
from dpn_model.flops import DecoderShape

IMAGE_SIZE = 1024
#: both towers meet on this grid: 1024 / 32 by ConvNeXt, 448 / 14 by CLIP
GRID_SIDE = 32
CLIP_WIDTH, CLIP_FFN, CLIP_LAYERS, CLIP_PATCH = 1024, 4096, 24, 14
NUM_ADAPTERS = 3
GATE_WIDTH = 512
#: stages of ConvNeXt: (blocks, channels)
CONVNEXT_L = ((3, 192), (3, 384), (27, 768), (3, 1536))
CONVNEXT_XXL = ((3, 384), (4, 768), (30, 1536), (3, 3072))


def llava_hr_shape(decoder: DecoderShape, stages: Sequence[tuple[int, int]]) -> ModelShape:
    """Shape of LLaVA-HR with `decoder` and a ConvNeXt of `stages`."""
    tokens = GRID_SIDE**2
    clip = tokens * 3 * CLIP_PATCH**2 * CLIP_WIDTH + vit_macs(CLIP_WIDTH, CLIP_FFN, CLIP_LAYERS, tokens)
    vision = clip + convnext_macs(stages, IMAGE_SIZE) + fusion_macs(stages[-1][1], tokens)
    projector = tokens * mlp2x_macs(CLIP_WIDTH, decoder.hidden_size)
    return ModelShape(decoder, (GRID_SIDE, GRID_SIDE), vision, projector)


def convnext_macs(stages: Sequence[tuple[int, int]], image_size: int) -> int:
    """One image through a ConvNeXt: stem of stride 4, stages with stride 2 between, 7x7 depthwise and a 4x MLP."""
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


def fusion_macs(slow_width: int, num_tokens: int) -> int:
    """Three mixture-of-resolution adapters and the final merge of one image."""
    slow = slow_width**2 + slow_width * CLIP_WIDTH
    fast = 7 * 7 * CLIP_WIDTH + CLIP_WIDTH**2
    gate = 2 * CLIP_WIDTH * GATE_WIDTH + GATE_WIDTH
    merge = CLIP_WIDTH**2 + slow_width * CLIP_WIDTH
    return NUM_ADAPTERS * (num_tokens * (slow + fast) + gate) + num_tokens * merge
