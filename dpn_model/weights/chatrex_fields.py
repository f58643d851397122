"""config.json of the ChatRex family: its decoder, or a refusal by name (spec chatrex 1.1, 7).

RexSeek's has the decoder's fields among LLaVA's own. What ChatRex's has is not known here, so one with the decoder in a
`text_config` is read too; of what stands beside that, only fields that are known to matter are looked at: towers and
projectors are what their tensors are (`chatrex_towers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config

from dpn_model.weights.chatrex_names import DECODER as DECODER_PREFIX
from dpn_model.weights.original_fields import DECODER, HARMLESS, check_known, check_supported, check_tower, taken_over

#: by `model_type`: kind of the decoder, and the fields that are handed to it
_DECODERS: dict[str, tuple[type[PreTrainedConfig], frozenset[str]]] = {
    "llama": (LlamaConfig, frozenset(DECODER)),
    "qwen2": (
        Qwen2Config,
        frozenset(DECODER) - {"attention_bias", "mlp_bias"}
        | {"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"},
    ),
}
#: the first value is what an absent field means
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "mm_vision_select_feature": ("patch",),
    "mm_use_im_start_end": (False, None),
    "mm_patch_merge_type": ("flat", None),
    "image_aspect_ratio": ("pad", "square", None),
    "vision_feature_select_strategy": ("default", "patch"),
    "projector_hidden_act": ("gelu",),
    "quantization_config": (None,),
}
#: a DPN's or a LLaVA-HR's, without a meaning here
_OF_OTHERS = frozenset("pooling is_multipath_encoder vision_tower_slow input_image_size".split())
#: The authors' code builds two layers with GELU between, whatever `mm_projector_type` says.
_HARMLESS = HARMLESS - _OF_OTHERS | frozenset(
    "auto_map mm_projector_type object_hidden_size vis_during_training_prob ignore_index image_token_index "
    "object_token_index vision_feature_layer image_size vision_config slow_vision_config".split()
)


def check_fields(config: Mapping[str, Any], has_biases: bool) -> None:
    """Refuse what would be computed otherwise than the authors' code does.

    Args:
        config: config.json.
        has_biases: whether the decoder's queries have them.

    Raises:
        ValueError: the field, its value and what is allowed.
    """
    check_supported(config, _SUPPORTED)
    check_tower(config)
    kind, fields = _decoder_kind(config, has_biases)
    if _is_composed(config):
        check_known(config["text_config"], fields | HARMLESS - _OF_OTHERS, kind(), "text_config.")
    else:
        check_known(config, fields | _SUPPORTED.keys() | _HARMLESS, kind())


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the decoder's embedding is its head as well."""
    return any(bool(part.get("tie_word_embeddings")) for part in (config, _decoder(config)))


def decoder_config(config: Mapping[str, Any], has_biases: bool, vocab_size: int) -> PreTrainedConfig:
    """The decoder's configuration: LLaMA's or Qwen2's.

    Args:
        config, has_biases: as in `check_fields`.
        vocab_size: rows of the embedding.

    Raises:
        ValueError: another kind of decoder, or values that it does not take.
    """
    kind, fields = _decoder_kind(config, has_biases)
    fields = fields - {"tie_word_embeddings"}
    return taken_over(_decoder(config), fields, kind, vocab_size=vocab_size, tie_word_embeddings=is_tied(config))


def has_query_biases(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a decoder's queries have biases: Qwen2's have, LLaMA's have not.

    Args:
        tensors: by our names.
    """
    return any(name.startswith(DECODER_PREFIX) and name.endswith("self_attn.q_proj.bias") for name in tensors)


def _decoder_kind(config: Mapping[str, Any], has_biases: bool) -> tuple[type[PreTrainedConfig], frozenset[str]]:
    """By what config.json says, or else by the tensors."""
    told = str(_decoder(config).get("model_type") or "")
    if _is_composed(config) and told not in ("", *_DECODERS):
        raise ValueError(f"config.json: text_config.model_type = {told!r}; allowed: {', '.join(_DECODERS)}")
    named = next((kind for kind in _DECODERS if kind.rstrip("2") in told), None)
    return _DECODERS[named or ("qwen2" if has_biases else "llama")]


def _is_composed(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("text_config"), Mapping)


def _decoder(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of config.json that has the decoder's fields."""
    part: Mapping[str, Any] = config["text_config"] if _is_composed(config) else config
    return part
