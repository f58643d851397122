"""Checkpoints in the authors' layouts (LLaVA, LLaVA-HR, DPN on either): configuration from config.json and the tensors.

The authors' config.json describes the decoder only; the towers' sizes are read off their tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig, LlavaConfig, PreTrainedConfig

from dpn_model.bases.llava_hr_config import ADAPTER_LAYERS, IMAGE_SIZE, LlavaHrConfig
from dpn_model.configuration import DpnConfig
from dpn_model.weights.pooling import method_of_pooling

#: width of a head in every CLIP the authors use
CLIP_HEAD_WIDTH = 64
EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
#: of the authors' `resize_token_embeddings`: transformers' default deviation, their training seed
ROUTER_ROW_STD, ROUTER_ROW_SEED = 0.02, 42


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a LLaMA with vision fields beside it, rather than a composed model."""
    return "text_config" not in config and any(field.startswith("mm_") for field in config)


def from_original(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Configuration and completed tensors of an original checkpoint.

    Args:
        config: its config.json.
        tensors: by our names (`names.canonical_names`).

    Returns:
        The configuration, and the tensors with a row for `<ROUTER>` where the checkpoint had none. The id of `<image>`
        is the first behind the embedding: placeholders are never embedded.

    Raises:
        ValueError: a field with a value that is not supported here, or a part that is absent.
    """
    _check_fields(config)
    if EMBEDDING not in tensors:
        raise ValueError(f"the checkpoint holds no embedding ({EMBEDDING}); it is not a whole model")
    method = method_of_pooling(config["pooling"]) if config.get("pooling") else None
    if method is None:
        tensors = with_router_row(tensors)
    vocab_size = len(tensors[EMBEDDING])
    text = text_config(config, vocab_size)
    base = base_config(config, tensors, text)
    return DpnConfig(base_config=base, method=method, router_token_id=vocab_size - 1), tensors


def base_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor], text: LlamaConfig) -> PreTrainedConfig:
    """LLaVA's or LLaVA-HR's configuration, by the flags in config.json."""
    if not config.get("is_multipath_encoder"):
        return LlavaConfig(
            vision_config=clip_config(tensors, "model.vision_tower."),
            text_config=text,
            image_token_index=text.vocab_size,
            vision_feature_layer=config.get("mm_vision_select_layer", -2),
        )
    has_adapters = any(name.startswith("model.vision_tower.adapters.") for name in tensors)
    return LlavaHrConfig(
        clip_config(tensors, "model.vision_tower.fast."),
        convnext_config(tensors, "model.vision_tower.slow.", str(config.get("vision_tower_slow", ""))),
        text,
        image_size=config.get("input_image_size") or IMAGE_SIZE,
        adapter_layers=ADAPTER_LAYERS if has_adapters else (),
        image_token_index=text.vocab_size,
    )


def text_config(config: Mapping[str, Any], vocab_size: int) -> LlamaConfig:
    """The decoder's configuration out of a config.json that mixes it with LLaVA's fields."""
    fields = (
        "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads rms_norm_eps "
        "max_position_embeddings rope_theta bos_token_id eos_token_id pad_token_id"
    ).split()
    known = {name: config[name] for name in fields if config.get(name) is not None}
    return LlamaConfig(**known, vocab_size=vocab_size, tie_word_embeddings=False)


def clip_config(tensors: Mapping[str, Tensor], prefix: str) -> CLIPVisionConfig:
    """CLIP's sizes from its tensors.

    Raises:
        ValueError: the tensors of the tower are not there.
    """
    patches = _part(tensors, prefix + "embeddings.patch_embedding.weight", "the CLIP vision tower")
    width, _, patch, _ = patches.shape
    side = int((len(tensors[prefix + "embeddings.position_embedding.weight"]) - 1) ** 0.5)
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=len(tensors[prefix + "encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=_count(tensors, re.escape(prefix) + r"encoder\.layers\.(\d+)\."),
        num_attention_heads=width // CLIP_HEAD_WIDTH,
        image_size=side * patch,
        patch_size=patch,
    )


def convnext_config(tensors: Mapping[str, Tensor], prefix: str, name: str) -> ConvNextConfig:
    """ConvNeXt's sizes from its tensors; timm's XXL has norms of 1e-5, every other size 1e-6.

    Raises:
        ValueError: the tensors of the tower are not there.
    """
    _part(tensors, prefix + "embeddings.patch_embeddings.weight", "the ConvNeXt vision tower")
    stage = prefix + "encoder.stages."
    num_stages = _count(tensors, re.escape(stage) + r"(\d+)\.")
    return ConvNextConfig(
        hidden_sizes=[len(tensors[f"{stage}{n}.layers.0.dwconv.bias"]) for n in range(num_stages)],
        depths=[_count(tensors, re.escape(f"{stage}{n}.") + r"layers\.(\d+)\.") for n in range(num_stages)],
        layer_norm_eps=1e-5 if "xxl" in name else 1e-6,
    )


def with_router_row(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One more row in the embedding and in the head, for `<ROUTER>` (spec A.3, "routing token")."""
    generator = torch.Generator().manual_seed(ROUTER_ROW_SEED)
    grown = dict(tensors)
    for name in (EMBEDDING, HEAD):
        weight = _part(tensors, name, "the decoder")
        row = torch.randn(1, weight.shape[1], generator=generator) * ROUTER_ROW_STD
        grown[name] = torch.cat([weight, row.to(weight)])  # weights may be shapes alone, on the meta device
    return grown


def _check_fields(config: Mapping[str, Any]) -> None:
    allowed = {
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_vision_select_feature": ("patch",),
        "mm_use_im_start_end": (False,),
    }
    for field, values in allowed.items():
        given = config.get(field, values[0])
        if given not in values:
            raise ValueError(f"config.json: {field} = {given!r}; allowed: {', '.join(map(repr, values))}")


def _part(tensors: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{what} is not in the checkpoint ({name}); assemble the model from its parts")
    return tensors[name]


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that `pattern` finds in a name."""
    return 1 + max(int(found[1]) for name in tensors if (found := re.match(pattern, name)))
