"""What LLaVA-HR costs: ConvNeXt and CLIP over one large picture, joined by adapters.

Convolutions and linear layers are counted; resizing, norms and means are not (spec base-models C.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dpn_model.bases.llava_hr.config import LlavaHrConfig
from dpn_model.bases.llava_hr.mixture_of_resolution import GATE_WIDTH
from dpn_model.bases.llava_hr.model import image_grid
from dpn_model.cost.bill import ModelShape, mlp2x_macs, vit_macs
from dpn_model.cost.flops import DecoderShape


def llava_hr_shape(config: LlavaHrConfig) -> ModelShape:
    """Shape of a LLaVA-HR configuration."""
    decoder = DecoderShape.from_config(config.text_config)
    fast, slow = config.vision_config, config.slow_vision_config
    height, width = image_grid(config)
    tokens = height * width
    patches = tokens * 3 * fast.patch_size**2 * fast.hidden_size
    clip = patches + vit_macs(fast.hidden_size, fast.intermediate_size, fast.num_hidden_layers, tokens)
    stages = list(zip(slow.depths, slow.hidden_sizes, strict=True))
    fusion = fusion_macs(fast.hidden_size, slow.hidden_sizes[-1], tokens, len(config.adapter_layers))
    vision = clip + convnext_macs(stages, config.image_size) + fusion
    return ModelShape(decoder, (height, width), vision, tokens * mlp2x_macs(fast.hidden_size, decoder.hidden_size))


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


def fusion_macs(fast_width: int, slow_width: int, num_tokens: int, num_adapters: int) -> int:
    """Mixture-of-resolution adapters and the final merge of one image; both towers on one grid of `num_tokens`."""
    slow = slow_width**2 + slow_width * fast_width
    fast = 7 * 7 * fast_width + fast_width**2
    gate = 2 * fast_width * GATE_WIDTH + GATE_WIDTH
    merge = fast_width**2 + slow_width * fast_width
    return num_adapters * (num_tokens * (slow + fast) + gate) + num_tokens * merge
