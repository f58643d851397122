"""LLaVA-1.5 at its two sizes, in the layout of `llava-hf/llava-1.5-*-hf` (spec base-models B.1, B.6)."""

from __future__ import annotations

from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from dpn_model.configuration import DpnConfig

IMAGE_TOKEN_ID = 32000
PAD_TOKEN_ID = 32001
#: the first of transformers' padding rows of the vocabulary, so that 32000 and 32001 keep their meaning
ROUTER_TOKEN_ID = 32002
#: Vicuna's 32000 words, padded by transformers
VOCAB_SIZE = 32064

VICUNA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_layers": 32}
VICUNA_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_layers": 40}


def llava_7b_config() -> DpnConfig:
    """CLIP ViT-L/14 at 336 px, mlp2x projector, Vicuna-7B v1.5; 24x24 = 576 visual tokens."""
    return _llava_config(vicuna_config(**VICUNA_7B, vocab_size=VOCAB_SIZE, pad_token_id=PAD_TOKEN_ID))


def llava_13b_config() -> DpnConfig:
    """The same tower with Vicuna-13B v1.5."""
    return _llava_config(vicuna_config(**VICUNA_13B, vocab_size=VOCAB_SIZE, pad_token_id=PAD_TOKEN_ID))


def vicuna_config(
    *, hidden_size: int, intermediate_size: int, num_layers: int, vocab_size: int, pad_token_id: int
) -> LlamaConfig:
    """Vicuna v1.5 (LLaMA-2): heads of 128, RMSNorm 1e-5, RoPE base 10000, no grouped queries, untied lm_head."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=hidden_size // 128,
        num_key_value_heads=hidden_size // 128,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=pad_token_id,
        tie_word_embeddings=False,
    )


def clip_large_336_config() -> CLIPVisionConfig:
    """CLIP ViT-L/14-336."""
    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )


def _llava_config(text: LlamaConfig) -> DpnConfig:
    base = LlavaConfig(
        vision_config=clip_large_336_config(),
        text_config=text,
        image_token_index=IMAGE_TOKEN_ID,
        image_seq_length=576,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return DpnConfig(base_config=base, router_token_id=ROUTER_TOKEN_ID)
