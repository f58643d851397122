"""What a tower of CLIP or SigLIP costs, from its configuration and without torch."""

from __future__ import annotations

from typing import Any

from dpn_model.cost.bill import TowerShape

#: tokens that a tower puts before its patches
CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}


def clip_tower(vision_config: Any, class_tokens_kept: int = 0) -> TowerShape:
    """A tower of CLIP, or of SigLIP, which has no class token."""
    kind = vision_config.model_type
    return TowerShape(
        hidden_size=vision_config.hidden_size,
        intermediate_size=vision_config.intermediate_size,
        num_layers=vision_config.num_hidden_layers,
        patch_values=vision_config.num_channels * vision_config.patch_size**2,
        patches=(vision_config.image_size // vision_config.patch_size) ** 2,
        class_tokens=CLASS_TOKENS.get(kind, 0),
        class_tokens_kept=class_tokens_kept,
        num_heads=vision_config.num_attention_heads,
        has_pooling_head=kind == "siglip_vision_model" and getattr(vision_config, "vision_use_head", True),
    )
