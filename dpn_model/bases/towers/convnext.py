"""ConvNeXt as timm's feature extractors run it, from transformers' modules."""

from __future__ import annotations

from torch import nn
from transformers import ConvNextConfig, ConvNextModel


def timm_convnext(config: ConvNextConfig) -> ConvNextModel:
    """Without a final norm, and with `layer_norm_eps` for all norms."""
    tower = ConvNextModel(config)
    tower.layernorm = nn.Identity()  # pooled outputs are not used: timm's feature extractor has no final norm
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = config.layer_norm_eps
    return tower
