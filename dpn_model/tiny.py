"""A LLaVA small enough to train from noise on a CPU: the same parts as LLaVA-1.5, about a million parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from dpn_model.bases.tiny_bases import tiny_base
from dpn_model.configuration import DpnConfig, config_of
from dpn_model.modeling import DpnForConditionalGeneration


def tiny_config(vocab_size: int, *, image_size: int = 96, patch_size: int = 12) -> DpnConfig:
    """See `bases.tiny_bases.tiny_base`."""
    return config_of(tiny_base(vocab_size, image_size=image_size, patch_size=patch_size))


def build_tiny_model(vocab_size: int) -> DpnForConditionalGeneration:
    """The tiny model with weights from torch's generator.

    CLIP draws its learned position embeddings at 0.02, a twentieth of what its patches measure here: where something
    is would stay invisible for long. They start from sines and cosines of row and column instead.
    """
    model = DpnForConditionalGeneration(tiny_config(vocab_size))
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        embeddings.position_embedding.weight[1:] = 0.5 * _row_column_waves(model.image_grid[0], embeddings.embed_dim)
    return model


def _row_column_waves(side: int, width: int) -> Tensor:
    """float[side * side, width]: sine and cosine of the row, then of the column, at width / 4 frequencies."""
    frequencies = 1.57 * 100.0 ** -(torch.arange(width // 4) / (width // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    phases = [axis.reshape(-1, 1) * frequencies for axis in (rows, columns)]
    return torch.cat([wave(phase) for phase in phases for wave in (torch.sin, torch.cos)], dim=1)
