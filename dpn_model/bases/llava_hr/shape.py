"""The grid of LLaVA-HR and what it costs, without torch: ConvNeXt and CLIP over one large picture, joined by adapters.

Convolutions and linear layers are counted; resizing, norms and means are not (spec base-models C.1).
"""

from __future__ import annotations

from typing import Any

from dpn_model.bases.towers.convnext_shape import convnext_macs, slow_stride
from dpn_model.cost.bill import ModelShape, mlp2x_macs, vit_macs
from dpn_model.cost.flops import DecoderShape

#: of the published models: side of the picture in pixels, and the CLIP blocks (1-based) after which an adapter acts
IMAGE_SIZE = 1024
ADAPTER_LAYERS = (6, 12, 18)
#: hidden width of an adapter's gate
GATE_WIDTH = 512


def fast_image_size(fast: Any, slow: Any, image_size: int) -> int:
    """Side of CLIP's picture: the one that gives ConvNeXt's grid, but never below the size CLIP was trained at."""
    return int(max(image_size // slow_stride(slow) * fast.patch_size, fast.image_size))


def image_grid(config: Any) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width): 32x32 at 1024 pixels."""
    size = fast_image_size(config.vision_config, config.slow_vision_config, config.image_size)
    side = size // config.vision_config.patch_size
    return side, side


def llava_hr_shape(config: Any) -> ModelShape:
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
    projector = tokens * mlp2x_macs(fast.hidden_size, decoder.hidden_size)
    return ModelShape(decoder, (height, width), vision, projector, vision_size=fast.hidden_size)


def fusion_macs(fast_width: int, slow_width: int, num_tokens: int, num_adapters: int) -> int:
    """Mixture-of-resolution adapters and the final merge of one image; both towers on one grid of `num_tokens`."""
    slow = slow_width**2 + slow_width * fast_width
    fast = 7 * 7 * fast_width + fast_width**2
    gate = 2 * fast_width * GATE_WIDTH + GATE_WIDTH
    merge = fast_width**2 + slow_width * fast_width
    return num_adapters * (num_tokens * (slow + fast) + gate) + num_tokens * merge
