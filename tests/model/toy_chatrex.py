"""A ChatRex small enough for tests, for both of its decoders."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig, Qwen2Config

from dpn_model import DpnConfig, DpnForConditionalGeneration
from dpn_model.bases.chatrex.model import ChatRexConfig

IMAGE_ID, OBJECT_ID, ROUTER_ID, VOCAB = 41, 42, 40, 41
LLAMA = LlamaConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4)
QWEN = Qwen2Config(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def toy_config(**changes: Any) -> ChatRexConfig:
    """Stride 32 and patch 8: 128 pixels for ConvNeXt, 32 for CLIP, 4x4 tokens."""
    values: dict[str, Any] = {
        "vision_config": CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        ),
        "slow_vision_config": ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 2, 1], layer_norm_eps=1e-6),
        "text_config": LLAMA,
        "image_size": 128,
        "image_token_index": IMAGE_ID,
        "object_token_index": OBJECT_ID,
        "tie_word_embeddings": False,
    }
    return ChatRexConfig(**(values | changes))


def built(config: ChatRexConfig) -> DpnForConditionalGeneration:
    torch.manual_seed(0)
    return DpnForConditionalGeneration(DpnConfig(base_config=config, router_token_id=ROUTER_ID)).eval()
