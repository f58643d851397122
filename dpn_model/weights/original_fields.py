"""Every field of an original config.json: taken over, known to be without effect here, or refused by name.

The authors' config.json is LLaMA's, with LLaVA's fields beside its own. What changes what the decoder computes is in
`DECODER`; a field that is nowhere below is refused unless it asks for nothing or for LLaMA's default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig, LlamaConfig

#: the decoder's own, handed to `LlamaConfig`; `vocab_size` is read off the tensors
DECODER = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim hidden_act "
    "attention_bias attention_dropout mlp_bias rms_norm_eps max_position_embeddings rope_theta rope_scaling "
    "rope_parameters tie_word_embeddings initializer_range bos_token_id eos_token_id pad_token_id"
).split()
#: fields of which only some values are supported; the first is what an absent field means
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_vision_select_feature": ("patch",),
    "mm_use_im_start_end": (False,),
    "mm_patch_merge_type": ("flat",),
    "mm_resampler_type": (None,),
    "image_aspect_ratio": ("pad", "square", None),
}
#: read elsewhere here, or without effect on what a checkpoint computes (names, training, the tokenizer, storage)
HARMLESS = frozenset(
    "_name_or_path architectures model_type transformers_version torch_dtype dtype use_cache vocab_size "
    "pretraining_tp mm_vision_tower mm_hidden_size mm_vision_select_layer mm_use_im_patch_token use_mm_proj "
    "mm_projector_lr mm_vision_tower_lr mm_tunable_parts tune_mm_mlp_adapter freeze_mm_mlp_adapter "
    "tune_mm_vision_resampler freeze_mm_vision_resampler unfreeze_mm_vision_tower freeze_vision freeze_backbone "
    "vision_tower is_multipath_encoder vision_tower_slow input_image_size pooling split_autoregressive_loss "
    "use_router_contrastive_loss image_grid_pinpoints image_crop_resolution image_split_resolution "
    "max_sequence_length model_max_length tokenizer_model_max_length tokenizer_padding_side "
    "gradient_checkpointing".split()
)
#: towers whose sizes look like those of OpenAI's CLIP, with another activation, other norms or no class token
_OTHER_TOWERS = re.compile(r"siglip|laion|open_?clip|eva|dino|intern|dfn|metaclip|sam", re.IGNORECASE)


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuse what would be computed otherwise than the authors' code does.

    Raises:
        ValueError: the field, its value and what is allowed.
    """
    kind = config.get("model_type")
    is_llama = any("Llama" in str(name) for name in config.get("architectures") or ())
    if not is_llama and kind not in (None, "llama", "llava", "llava_llama"):
        raise ValueError(f"config.json: model_type = {kind!r}; allowed for an original LLaVA: llava, llava_llama")
    for field, values in SUPPORTED.items():
        given = config.get(field, values[0])
        if given not in values:
            raise ValueError(f"config.json: {field} = {given!r}; allowed: {', '.join(map(repr, values))}")
    tower = str(config.get("mm_vision_tower") or "")
    if _OTHER_TOWERS.search(tower):
        raise ValueError(f"config.json: mm_vision_tower = {tower!r}; allowed: a CLIP of OpenAI's")
    plain = LlamaConfig()
    known = {*DECODER, *SUPPORTED, *HARMLESS, *GenerationConfig().to_dict()}
    for field, value in config.items():
        asks_for_nothing = value is None or value is False or value in ("", [], {})
        if field in known or asks_for_nothing or value == getattr(plain, field, None):
            continue
        default = getattr(plain, field, None)
        raise ValueError(f"config.json: {field} = {value!r} is not supported; allowed: {default!r}, or no such field")


def text_config(config: Mapping[str, Any], vocab_size: int) -> LlamaConfig:
    """The decoder's configuration out of a config.json that mixes it with LLaVA's fields.

    Raises:
        ValueError: values that LLaMA's configuration does not take.
    """
    given = {name: config[name] for name in DECODER if config.get(name) is not None}
    try:
        return LlamaConfig(**given, vocab_size=vocab_size)
    except Exception as error:  # transformers' checks of a configuration raise errors of many kinds
        raise ValueError(f"config.json: not a LLaMA's configuration: {' '.join(str(error).split())}") from error
