"""What any base model costs, from its configuration: one of transformers, or plain data with the same attributes.

Of bases that encode a picture in tiles of one size (LLaVA-NeXT, LLaVA-OneVision, InternVL, Idefics3, SmolVLM),
`vision_macs` and `projector_macs` are of one tile; a report's `num_images` counts tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dpn_model.bases.chatrex.shape import chatrex_shape
from dpn_model.bases.llava_hr.shape import llava_hr_shape
from dpn_model.bases.towers.clip_shape import clip_tower
from dpn_model.bases.vision.token_grids import class_tokens_kept, idefics_tile, internvl_tile
from dpn_model.cost.bill import ModelShape, mlp2x_macs, vit_macs
from dpn_model.cost.flops import DecoderShape


def model_shape(base: Any) -> ModelShape:
    """Shape of a base; of one whose vision tower has no account here (Qwen-VL), the decoder's alone."""
    if base.model_type in _SHAPES:
        return _SHAPES[base.model_type](base)
    return ModelShape(DecoderShape.from_config(base.text_config))


def llava_shape(base: Any) -> ModelShape:
    """LLaVA-1.5: a CLIP tower, whose pictures may have other sizes too, and the projector on what is taken of it."""
    tower, decoder = clip_tower(base.vision_config, class_tokens_kept(base)), DecoderShape.from_config(base.text_config)
    side = base.vision_config.image_size // base.vision_config.patch_size
    chosen = base.vision_feature_layer
    width = tower.hidden_size * (1 if isinstance(chosen, int) else len(chosen))
    projector = (tower.patches + tower.class_tokens_kept) * mlp2x_macs(width, decoder.hidden_size)
    seen = None if tower.class_tokens_kept else width
    return ModelShape(decoder, (side, side), tower.macs(tower.patches), projector, tower, seen)


def anyres_shape(base: Any) -> ModelShape:
    """A CLIP or SigLIP tower and LLaVA's projector on every patch of every tile."""
    one_size = llava_shape(base)
    return ModelShape(one_size.decoder, None, one_size.vision_macs, one_size.projector_macs)


def internvl_shape(base: Any) -> ModelShape:
    """A vision transformer with a class token; the projector takes patches shuffled into fewer, wider tokens."""
    decoder, tower, (size, side) = DecoderShape.from_config(base.text_config), base.vision_config, internvl_tile(base)
    patch = tower.patch_size if isinstance(tower.patch_size, int) else tower.patch_size[0]
    patches = (size // patch) ** 2
    embedding = patches * tower.num_channels * patch**2 * tower.hidden_size
    blocks = vit_macs(tower.hidden_size, tower.intermediate_size, tower.num_hidden_layers, patches + 1)
    width = tower.hidden_size * patches // side**2
    return ModelShape(decoder, (side, side), embedding + blocks, side**2 * mlp2x_macs(width, decoder.hidden_size))


def idefics_shape(base: Any) -> ModelShape:
    """SigLIP without its head; the connector is one matrix on patches shuffled into fewer, wider tokens."""
    decoder, tower, (_, side) = (
        DecoderShape.from_config(base.text_config),
        clip_tower(base.vision_config),
        idefics_tile(base),
    )
    width = tower.hidden_size * base.scale_factor**2
    return ModelShape(decoder, (side, side), tower.macs(tower.patches), side**2 * width * decoder.hidden_size)


_SHAPES: dict[str, Callable[[Any], ModelShape]] = {
    "chatrex": chatrex_shape,
    "idefics3": idefics_shape,
    "internvl": internvl_shape,
    "llava": llava_shape,
    "llava_hr": llava_hr_shape,
    "llava_next": anyres_shape,
    "llava_onevision": anyres_shape,
    "smolvlm": idefics_shape,
}
