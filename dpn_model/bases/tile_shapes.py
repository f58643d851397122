"""What bases cost that encode a picture in tiles of one size: LLaVA-NeXT, LLaVA-OneVision, InternVL, Idefics3, SmolVLM.

`vision_macs` and `projector_macs` are of one tile; a report's `num_images` counts tiles.
"""

from __future__ import annotations

import math
from typing import Any

from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.cost.bill import ModelShape, clip_macs, mlp2x_macs, vit_macs
from dpn_model.cost.flops import DecoderShape


def anyres_shape(base: Any) -> ModelShape:
    """A CLIP or SigLIP tower and LLaVA's projector on every patch of every tile."""
    one_size = ModelShape.from_llava(base)
    return ModelShape(one_size.decoder, None, one_size.vision_macs, one_size.projector_macs)


def internvl_shape(base: Any) -> ModelShape:
    """A vision transformer with a class token; the projector takes patches shuffled into fewer, wider tokens."""
    tower, decoder, grid = (
        base.vision_config,
        DecoderShape.from_config(base.text_config),
        image_side_of(base).fixed_grid(),
    )
    patches = math.prod(side // patch for side, patch in zip(tower.image_size, tower.patch_size, strict=True))
    embedding = patches * tower.num_channels * math.prod(tower.patch_size) * tower.hidden_size
    blocks = vit_macs(tower.hidden_size, tower.intermediate_size, tower.num_hidden_layers, patches + 1)
    grid = image_side_of(base).fixed_grid()
    tokens = math.prod(grid)
    width = tower.hidden_size * patches // tokens
    return ModelShape(decoder, grid, embedding + blocks, tokens * mlp2x_macs(width, decoder.hidden_size))


def idefics_shape(base: Any) -> ModelShape:
    """SigLIP without its head; the connector is one matrix on patches shuffled into fewer, wider tokens."""
    decoder, grid = DecoderShape.from_config(base.text_config), image_side_of(base).fixed_grid()
    width = base.vision_config.hidden_size * base.scale_factor**2
    return ModelShape(decoder, grid, clip_macs(base.vision_config), math.prod(grid) * width * decoder.hidden_size)
