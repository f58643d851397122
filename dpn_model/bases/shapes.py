"""What any base model costs, from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig

from dpn_model.bases.llava_hr.shape import llava_hr_shape
from dpn_model.bases.tile_shapes import anyres_shape, idefics_shape, internvl_shape
from dpn_model.cost.bill import ModelShape
from dpn_model.cost.flops import DecoderShape

_SHAPES: dict[str, Callable[[Any], ModelShape]] = {
    "idefics3": idefics_shape,
    "internvl": internvl_shape,
    "llava": ModelShape.from_llava,
    "llava_hr": llava_hr_shape,
    "llava_next": anyres_shape,
    "llava_onevision": anyres_shape,
    "smolvlm": idefics_shape,
}


def model_shape(base: PreTrainedConfig) -> ModelShape:
    """Shape of a base; of one whose vision tower has no account here (Qwen-VL), the decoder's alone."""
    if base.model_type in _SHAPES:
        return _SHAPES[base.model_type](base)
    return ModelShape(DecoderShape.from_config(base.text_config))
