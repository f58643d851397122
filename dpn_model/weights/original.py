"""Checkpoints in the authors' layouts (LLaVA, LLaVA-HR, DPN on either): configuration from config.json and the tensors.

The authors' config.json describes the decoder only; the towers' sizes are read off their tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig, LlavaConfig, PreTrainedConfig

from dpn_model.bases.chatrex.shape import is_chatrex
from dpn_model.bases.llava_hr.model import LlavaHrConfig
from dpn_model.bases.llava_hr.shape import ADAPTER_LAYERS, IMAGE_SIZE
from dpn_model.configuration import DpnConfig
from dpn_model.weights.authors_pooling import method_of_pooling
from dpn_model.weights.original_fields import check_fields, text_config
from dpn_model.weights.router_row import EMBEDDING, HEAD, tokenizer_ids, with_rows

#: width of a head in every CLIP the authors use
CLIP_HEAD_WIDTH = 64


def is_original(config: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a LLaMA with vision fields beside it, not a composed model and no RexSeek."""
    has_fields = any(field.startswith("mm_") for field in config)
    return "text_config" not in config and has_fields and not is_chatrex(config)


def from_original(
    config: Mapping[str, Any], tensors: dict[str, Tensor], folder: Path
) -> tuple[DpnConfig, dict[str, Tensor]]:
    """Configuration and completed tensors of an original checkpoint.

    Args:
        config: its config.json.
        tensors: by our names (`names.canonical_names`).
        folder: with its tokenizer, if it has one.

    Returns:
        The configuration, and the tensors with a row for `<ROUTER>` where the checkpoint had none. The id of `<image>`
        comes behind it, as a rule behind the embedding's last row: placeholders are never embedded.

    Raises:
        ValueError: a field with a value that is not supported here, or a part that is absent.
    """
    check_fields(config)
    method = method_of_pooling(config["pooling"]) if config.get("pooling") else None
    rows = len(_part(tensors, EMBEDDING, "the decoder"))
    router, image = tokenizer_ids(folder) or ((rows, rows + 1) if method is None else (rows - 1, rows))
    tensors = with_rows(one_head(config, tensors), router + 1)
    text = text_config(config, len(tensors[EMBEDDING]))
    base = base_config(config, tensors, text, image)
    return DpnConfig(base_config=base, method=method, router_token_id=router), tensors


def base_config(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], text: LlamaConfig, image_token_id: int
) -> PreTrainedConfig:
    """LLaVA's or LLaVA-HR's configuration, by the flags in config.json."""
    if not config.get("is_multipath_encoder"):
        return LlavaConfig(
            vision_config=clip_config(tensors, "model.vision_tower."),
            text_config=text,
            image_token_index=image_token_id,
            vision_feature_layer=config.get("mm_vision_select_layer", -2),
        )
    has_adapters = any(name.startswith("model.vision_tower.adapters.") for name in tensors)
    return LlavaHrConfig(
        vision_config=clip_config(tensors, "model.vision_tower.fast."),
        slow_vision_config=convnext_config(
            tensors, "model.vision_tower.slow.", str(config.get("vision_tower_slow", ""))
        ),
        text_config=text,
        image_size=config.get("input_image_size") or IMAGE_SIZE,
        adapter_layers=ADAPTER_LAYERS if has_adapters else (),
        tie_word_embeddings=text.tie_word_embeddings,
        image_token_index=image_token_id,
    )


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


def one_head(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the head where config.json says that it is the embedding."""
    if not config.get("tie_word_embeddings"):
        _part(tensors, HEAD, "the decoder's head")
        return tensors
    is_known = HEAD in tensors and not tensors[HEAD].is_meta  # of shapes alone nothing can be said
    if is_known and not torch.equal(tensors[HEAD], tensors[EMBEDDING]):
        raise ValueError(
            f"config.json: tie_word_embeddings = True, but {HEAD} differs from {EMBEDDING}; allowed: False"
        )
    return {name: tensor for name, tensor in tensors.items() if name != HEAD}


def _part(tensors: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{what} is not in the checkpoint ({name}); assemble the model from its parts")
    return tensors[name]


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the largest number that `pattern` finds in a name."""
    return 1 + max(int(found[1]) for name in tensors if (found := re.match(pattern, name)))
