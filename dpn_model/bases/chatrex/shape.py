"""The grid of ChatRex's pictures and what they cost, without torch: CLIP and ConvNeXt side by side (spec chatrex 1.1).

Convolutions and linear layers are counted; resizing and norms are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dpn_model.bases.towers.clip_shape import clip_tower
from dpn_model.bases.towers.convnext_shape import convnext_macs, slow_stride
from dpn_model.cost.bill import ModelShape, mlp2x_macs
from dpn_model.cost.flops import DecoderShape

#: of the published models: side of the padded picture in pixels
IMAGE_SIZE = 768
_FAMILY = re.compile(r"chat_?rex|rex_?seek", re.IGNORECASE)


def is_chatrex(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is a ChatRex's or a RexSeek's, by its kind of model or its architectures."""
    return any(_FAMILY.search(str(name)) for name in (config.get("model_type"), *(config.get("architectures") or ())))


def image_grid(config: Any) -> tuple[int, int]:
    """Visual tokens of one picture as (height, width): 24x24.

    Raises:
        ValueError: the towers have different grids: their channels are put side by side, cell by cell.
    """
    side = config.vision_config.image_size // config.vision_config.patch_size
    slow = config.image_size // slow_stride(config.slow_vision_config)
    if side != slow:
        raise ValueError(
            f"image_size = {config.image_size}: ConvNeXt's grid is {slow}x{slow}, CLIP's {side}x{side}; allowed: "
            f"{side * slow_stride(config.slow_vision_config)}"
        )
    return side, side


def feature_width(config: Any) -> int:
    """Channels of both towers together: 1024 + 1536."""
    return int(config.vision_config.hidden_size + config.slow_vision_config.hidden_sizes[-1])


def object_width(config: Any) -> int:
    """Channels of ConvNeXt's stages together, which are an object's features: 2880.

    Raises:
        ValueError: a number that sines and cosines of four coordinates cannot fill.
    """
    widths = config.slow_vision_config.hidden_sizes
    if sum(widths) % 8:
        raise ValueError(
            f"slow_vision_config.hidden_sizes = {widths} are {sum(widths)} together; allowed: a multiple of 8"
        )
    return int(sum(widths))


def object_macs(config: Any) -> int:
    """One box: rows, then columns of every map summed with their weights, and the projector of objects."""
    slow, hidden = config.slow_vision_config, int(config.text_config.hidden_size)
    sides = [config.image_size // (slow.patch_size * 2**stage) for stage in range(len(slow.hidden_sizes))]
    content = sum(width * side * (side + 1) for width, side in zip(slow.hidden_sizes, sides, strict=True))
    return int(content + mlp2x_macs(object_width(config), hidden))


def chatrex_shape(config: Any) -> ModelShape:
    """Shape of a ChatRex configuration; CLIP runs all its layers, though the last one is not read."""
    decoder, (height, width) = DecoderShape.from_config(config.text_config), image_grid(config)
    slow = config.slow_vision_config
    tower, stages = clip_tower(config.vision_config), list(zip(slow.depths, slow.hidden_sizes, strict=True))
    vision = tower.macs(tower.patches) + convnext_macs(stages, config.image_size)
    features = feature_width(config)
    projector = height * width * mlp2x_macs(features, decoder.hidden_size)
    return ModelShape(
        decoder, (height, width), vision, projector, vision_size=features, object_macs=object_macs(config)
    )
