"""A LLaVA small enough to train from noise on a CPU: the same parts as LLaVA-1.5, about a million parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from dpn_model.configuration import DpnConfig
from dpn_model.modeling import DpnForConditionalGeneration
from dpn_model.processing.tokenizer import SPECIAL_TOKENS


def tiny_config(vocab_size: int, *, image_size: int = 96, patch_size: int = 12) -> DpnConfig:
    """CLIP-style tower (4 layers of 64), mlp2x projector, Llama decoder (8 layers of 96), 8x8 = 64 visual tokens."""
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=patch_size,
        projection_dim=64,
    )
    text = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=SPECIAL_TOKENS.index("<s>"),
        eos_token_id=SPECIAL_TOKENS.index("</s>"),
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        tie_word_embeddings=False,
        # With transformers' 0.02 a decoder this narrow stays at chance for thousands of steps; 0.08 (about
        # hidden_size ** -0.5) leaves the plateau within 500 (measured side by side on the demo set).
        initializer_range=0.08,
    )
    base = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=SPECIAL_TOKENS.index("<image>"),
        image_seq_length=(image_size // patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return DpnConfig(base_config=base, router_token_id=SPECIAL_TOKENS.index("<ROUTER>"))


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
