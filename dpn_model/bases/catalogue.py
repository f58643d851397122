"""The named bases as plain data, and what they cost; needs neither torch nor transformers.

LLaVA-1.5 is laid out as `llava-hf/llava-1.5-*-hf` (spec base-models B.1, B.6), LLaVA-HR has its published sizes and the
vocabulary of the authors' checkpoints (C.1, C.2). A new base is one entry of `BASES`; `configuration.base_config` makes
a `DpnConfig` of it.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from dpn_model.bases.chatrex.shape import IMAGE_SIZE as CHATREX_IMAGE_SIZE
from dpn_model.bases.llava_hr.shape import ADAPTER_LAYERS, IMAGE_SIZE
from dpn_model.bases.shapes import model_shape
from dpn_model.bases.tiny_bases import NamedBase, tiny_base, tiny_chatrex_base
from dpn_model.cost.bill import ModelShape


def base_shape(name: str) -> ModelShape:
    """What a named base's cost follows from. Raises as `named_base`."""
    return model_shape(base_attributes(name))


def base_attributes(name: str) -> SimpleNamespace:
    """A named base's configuration as attributes, the way transformers has them. Raises as `named_base`."""
    text = json.dumps(named_base(name).base_config)
    attributes: SimpleNamespace = json.loads(text, object_hook=lambda values: SimpleNamespace(**values))
    return attributes


def named_base(name: str) -> NamedBase:
    """The plain data of a base.

    Raises:
        ValueError: unknown name.
    """
    if name not in BASES:
        raise ValueError(f"model = {name!r} is not a named base; allowed: {', '.join(BASES)}")
    return BASES[name]


def _vicuna(hidden_size: int, intermediate_size: int, num_layers: int, vocab_size: int, pad: int) -> dict[str, Any]:
    """Vicuna v1.5 (LLaMA-2): heads of 128, RMSNorm 1e-5, RoPE base 10000, no grouped queries, untied lm_head."""
    return {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": hidden_size // 128,
        "num_key_value_heads": hidden_size // 128,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": pad,
        "tie_word_embeddings": False,
    }


_VICUNA_7B, _VICUNA_13B = (4096, 11008, 32), (5120, 13824, 40)
_CLIP_LARGE_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}


def _llava(decoder: tuple[int, int, int]) -> NamedBase:
    # 32000 words and two ids behind them, padded by transformers to 32064, whose first padding row is `<ROUTER>`'s.
    base = {
        "model_type": "llava",
        "vision_config": _CLIP_LARGE_336,
        "text_config": _vicuna(*decoder, vocab_size=32064, pad=32001),
        "image_token_index": 32000,
        "image_seq_length": 576,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    return NamedBase(base, router_token_id=32002)


def _llava_hr(decoder: tuple[int, int, int], widths: list[int], depths: list[int], norm_eps: float) -> NamedBase:
    # 32000 words, then `<ROUTER>`. `<image>` comes after the embedding's last row: placeholders are never embedded.
    slow = {"model_type": "convnext", "hidden_sizes": widths, "depths": depths, "patch_size": 4}
    base = {
        "model_type": "llava_hr",
        "vision_config": _CLIP_LARGE_336,
        "slow_vision_config": {**slow, "layer_norm_eps": norm_eps},
        "text_config": _vicuna(*decoder, vocab_size=32001, pad=0),
        "image_size": IMAGE_SIZE,
        "adapter_layers": list(ADAPTER_LAYERS),
        "image_token_index": 32001,
        "projector_hidden_act": "gelu",
    }
    return NamedBase(base, router_token_id=32000)


def _chatrex(text: dict[str, Any], *, is_tied: bool = False) -> NamedBase:
    # 104 tokens of its own behind the words, then `<ROUTER>`, then placeholders: a picture's tokens, an object's.
    router = text["vocab_size"]
    slow = {"model_type": "convnext", "hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3], "patch_size": 4}
    base = {
        "model_type": "chatrex",
        "vision_config": _CLIP_LARGE_336,
        "slow_vision_config": {**slow, "layer_norm_eps": 1e-6},
        "text_config": {**text, "vocab_size": router + 1, "tie_word_embeddings": is_tied},
        "image_size": CHATREX_IMAGE_SIZE,
        "image_token_index": router + 1,
        "object_token_index": router + 2,
        "tie_word_embeddings": is_tied,
    }
    return NamedBase(base, router_token_id=router)


def _qwen(hidden_size: int, intermediate_size: int, num_layers: int, heads: tuple[int, int]) -> dict[str, Any]:
    """Qwen2.5: heads of 128, grouped queries, RMSNorm 1e-6, RoPE base 1e6."""
    return {
        "model_type": "qwen2",
        "vocab_size": 151769,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "bos_token_id": None,
        "eos_token_id": 151645,
        "pad_token_id": 151643,
    }


BASES: dict[str, NamedBase] = {
    "tiny": tiny_base(),
    # CLIP ViT-L/14 at 336 px, mlp2x projector, Vicuna v1.5; 24x24 = 576 visual tokens
    "llava-1.5-7b": _llava(_VICUNA_7B),
    "llava-1.5-13b": _llava(_VICUNA_13B),
    # CLIP ViT-L/14 at 448 px beside ConvNeXt-L, or -XXL, at 1024 px; 32x32 = 1024 visual tokens
    "llava-hr-7b": _llava_hr(_VICUNA_7B, [192, 384, 768, 1536], [3, 3, 27, 3], norm_eps=1e-6),
    "llava-hr-x-13b": _llava_hr(_VICUNA_13B, [384, 768, 1536, 3072], [3, 4, 30, 3], norm_eps=1e-5),
    # CLIP ViT-L/14 at 336 px beside ConvNeXt-L at 768 px, channels side by side; 24x24 = 576 visual tokens, and
    # up to 100 boxes of two rows each. The paper's decoder, that of the released weights, and RexSeek's.
    "tiny-chatrex": tiny_chatrex_base(),
    "chatrex-7b": _chatrex(_qwen(3584, 18944, 28, (28, 4))),
    "chatrex-7b-vicuna": _chatrex(_vicuna(*_VICUNA_7B, vocab_size=32104, pad=0)),
    "rexseek-3b": _chatrex(_qwen(2048, 11008, 36, (16, 2)), is_tied=True),
}
