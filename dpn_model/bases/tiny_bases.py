"""The bases that are trained from noise on a CPU, as plain data; and what every named base is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpn_model.special_texts import SPECIAL_TOKENS

#: words of the demo set's tokenizer; only `lm_head` and the number of parameters depend on it
TINY_VOCAB_SIZE = 70
#: words of the detection set's tokenizer, and what names objects
TINY_CHATREX_VOCAB_SIZE = 154


@dataclass(frozen=True)
class NamedBase:
    """What `DpnConfig` takes of a base: its configuration, in transformers' names, and the id of `<ROUTER>`."""

    base_config: dict[str, Any]
    router_token_id: int


def tiny_base(vocab_size: int = TINY_VOCAB_SIZE, *, image_size: int = 96, patch_size: int = 12) -> NamedBase:
    """CLIP-style tower (4 layers of 64), mlp2x projector, Llama decoder (8 layers of 96), 8x8 = 64 visual tokens."""
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_channels": 3,
        "image_size": image_size,
        "patch_size": patch_size,
        "projection_dim": 64,
    }
    text = {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": SPECIAL_TOKENS.index("<s>"),
        "eos_token_id": SPECIAL_TOKENS.index("</s>"),
        "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
        "tie_word_embeddings": False,
        # With transformers' 0.02 a decoder this narrow stays at chance for thousands of steps; 0.08 (about
        # hidden_size ** -0.5) leaves the plateau within 500 (measured side by side on the demo set).
        "initializer_range": 0.08,
    }
    base = {
        "model_type": "llava",
        "vision_config": vision,
        "text_config": text,
        "image_token_index": SPECIAL_TOKENS.index("<image>"),
        "image_seq_length": (image_size // patch_size) ** 2,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
    }
    return NamedBase(base, SPECIAL_TOKENS.index("<ROUTER>"))


def tiny_chatrex_base(vocab_size: int = TINY_CHATREX_VOCAB_SIZE) -> NamedBase:
    """Towers of 64 and 24 to 128 channels, Llama decoder (4 layers of 128), 8x8 = 64 visual tokens, 100 boxes.

    Ids are those of a tokenizer made here (`processing.tokenizer.build_word_tokenizer`).
    """
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_channels": 3,
        "image_size": 112,
        "patch_size": 14,
        "projection_dim": 64,
    }
    slow = {"model_type": "convnext", "hidden_sizes": [24, 48, 96, 128], "depths": [1, 1, 2, 1], "patch_size": 4}
    text = {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": SPECIAL_TOKENS.index("<s>"),
        "eos_token_id": SPECIAL_TOKENS.index("</s>"),
        "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
        # An answer repeats the row that names a box: one table for what is read and what is written.
        "tie_word_embeddings": True,
        "initializer_range": 0.08,
    }
    base = {
        "model_type": "chatrex",
        "vision_config": vision,
        "slow_vision_config": {**slow, "layer_norm_eps": 1e-6},
        "text_config": text,
        "image_size": 256,
        "vision_feature_layer": -1,
        "image_token_index": SPECIAL_TOKENS.index("<image>"),
        "object_token_index": len(SPECIAL_TOKENS),
        "tie_word_embeddings": True,
    }
    return NamedBase(base, SPECIAL_TOKENS.index("<ROUTER>"))
