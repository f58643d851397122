"""Decoders that packed execution computes exactly as transformers does, and the guard that refuses all others by name.

What a decoder's layers do by themselves is right by construction: they are transformers' own. What its model does
around them (masks, rotary tables per kind of layer, a scale of the embeddings) has to be known here. So a family is
admitted when it has been compared with transformers, and a test compares every one of them anew.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedConfig

#: `text_config.model_type` of every decoder that was compared
DECODERS = (
    "apertus", "arcee", "aria_text", "bitnet", "cohere", "cohere2", "cwm", "ernie4_5", "ernie4_5_moe", "exaone4",
    "flex_olmo", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "glm4_moe", "granite", "granitemoe",
    "granitemoeshared", "helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "llama", "ministral", "ministral3", "mistral",
    "mixtral", "olmo", "olmo2", "olmo3", "olmoe", "phi3", "phimoe", "qwen2", "qwen2_5_vl_text", "qwen2_moe",
    "qwen2_vl_text", "qwen3", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_vl_text", "seed_oss", "smollm3", "starcoder2",
)  # fmt: skip
LAYER_KINDS = {"full_attention", "sliding_attention"}
#: settings of some of them that packed attention cannot follow, and what they mean
_REFUSED = {
    "gemma": {"use_bidirectional_attention": "attention looks both ways"},
    "gemma2": {
        "attn_logit_softcapping": "attention scores are soft-capped",
        "use_bidirectional_attention": "attention looks both ways",
    },
    "gemma3_text": {"use_bidirectional_attention": "attention looks both ways"},
    # Their windows are in the mask alone, which packed attention does not see.
    "phimoe": {"sliding_window": "its layers do not know of the window"},
    "qwen2_moe": {"use_sliding_window": "its layers do not know of the window"},
}


def check_decoder(text_config: PreTrainedConfig) -> None:
    """Raise ValueError, naming the field, unless packed execution computes what this configuration says."""
    kind = text_config.model_type
    if kind not in DECODERS:
        raise ValueError(f"text_config.model_type = {kind!r} was not compared with packed execution; allowed: "
                         f"{', '.join(DECODERS)}")  # fmt: skip
    others = set(getattr(text_config, "layer_types", None) or ()) - LAYER_KINDS
    if others:
        allowed = ", ".join(sorted(LAYER_KINDS))
        raise ValueError(f"text_config.layer_types holds {', '.join(sorted(others))}; allowed: {allowed}")
    for field, meaning in _REFUSED.get(kind, {}).items():
        value = getattr(text_config, field, None)
        if value:
            raise ValueError(f"text_config.{field} = {value!r} ({meaning}); allowed with {kind}: null")


def check_layers(decoder: Any, base_kind: str) -> None:
    """Raise ValueError unless a built decoder has the parts that `dpn_model.decoder` runs, all of them causal."""
    missing = [name for name in ("layers", "norm", "rotary_emb") if not hasattr(decoder, name)]
    if missing:
        raise ValueError(f"base {base_kind!r} cannot be attached: its language_model has no {', '.join(missing)}")
    modules: nn.ModuleList = decoder.layers
    both_ways = [name for name, module in modules.named_modules() if getattr(module, "is_causal", True) is False]
    if both_ways:
        raise ValueError(f"base {base_kind!r} cannot be attached: layers.{both_ways[0]} attends both ways")
