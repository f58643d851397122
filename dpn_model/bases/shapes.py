"""What any base model costs, from its configuration."""

from __future__ import annotations

from typing import cast

from transformers import PreTrainedConfig

from dpn_model.bases.llava_hr_config import LlavaHrConfig
from dpn_model.bases.llava_hr_shape import llava_hr_shape
from dpn_model.cost import ModelShape
from dpn_model.flops import DecoderShape


def model_shape(base: PreTrainedConfig) -> ModelShape:
    """Shape of a base; of one whose vision tower has no account here, the decoder's alone."""
    if base.model_type == "llava":
        return ModelShape.from_llava(base)
    if base.model_type == "llava_hr":
        return llava_hr_shape(cast(LlavaHrConfig, base))
    return ModelShape(DecoderShape.from_config(base.text_config))
