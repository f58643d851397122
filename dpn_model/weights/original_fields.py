"""Every field of an original config.json: taken over, known to be without effect here, or refused by name.

The authors' config.json is LLaMA's, with LLaVA's fields beside its own. What changes what the decoder computes is in
`DECODER`; a field that is nowhere below is refused unless it asks for nothing or for LLaMA's default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from transformers import GenerationConfig, LlamaConfig, PreTrainedConfig

Kind = TypeVar("Kind", bound=PreTrainedConfig)

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
    "gradient_checkpointing id2label label2id".split()
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
    check_supported(config, SUPPORTED)
    check_tower(config)
    check_known(config, {*DECODER, *SUPPORTED, *HARMLESS}, LlamaConfig())


def check_tower(config: Mapping[str, Any]) -> None:
    """Raise ValueError where `mm_vision_tower` names one that would be taken for OpenAI's CLIP."""
    tower = str(config.get("mm_vision_tower") or "")
    if _OTHER_TOWERS.search(tower):
        raise ValueError(f"config.json: mm_vision_tower = {tower!r}; allowed: a CLIP of OpenAI's")


def check_supported(config: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ValueError, naming the field, unless each has one of its values, the first of which an absent one means."""
    for field, values in supported.items():
        given = config.get(field, values[0])
        if given not in values:
            raise ValueError(f"config.json: {field} = {given!r}; allowed: {', '.join(map(repr, values))}")


def check_known(config: Mapping[str, Any], known: Iterable[str], plain: PreTrainedConfig, where: str = "") -> None:
    """Refuse a field that is not `known`, unless it asks for nothing or for what `plain` has anyhow.

    Args:
        config: config.json, or a part of it.
        known: names of fields that are read or have no effect; those of generation need not be among them.
        plain: a configuration of the same kind, all of it at transformers' defaults.
        where: of the part, before the field's name in the error: "text_config.".

    Raises:
        ValueError: the field, its value and what is allowed.
    """
    let_through = {*known, *GenerationConfig().to_dict()}
    for field, value in config.items():
        asks_for_nothing = value is None or value is False or value in ("", [], {})
        if field in let_through or asks_for_nothing:
            continue
        default = getattr(plain, field, None)
        if value != default:
            raise ValueError(
                f"config.json: {where}{field} = {value!r} is not supported; allowed: {default!r}, or no such field"
            )


def text_config(config: Mapping[str, Any], vocab_size: int) -> LlamaConfig:
    """The decoder's configuration out of a config.json that mixes it with LLaVA's fields.

    Raises:
        ValueError: values that LLaMA's configuration does not take.
    """
    return taken_over(config, DECODER, LlamaConfig, vocab_size=vocab_size)


def taken_over(config: Mapping[str, Any], fields: Iterable[str], kind: type[Kind], **others: Any) -> Kind:
    """A configuration of `kind` from those of `fields` that a config.json has, and from `others`.

    Raises:
        ValueError: values that it does not take.
    """
    given = {name: config[name] for name in fields if config.get(name) is not None}
    try:
        return kind(**(given | others))
    except Exception as error:  # transformers' checks of a configuration raise errors of many kinds
        raise ValueError(f"config.json: {kind.__name__} refuses it: {' '.join(str(error).split())}") from error
