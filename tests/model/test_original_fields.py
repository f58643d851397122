"""Original config.json: what changes the decoder is taken over or refused, what does not is let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dpn_model import DpnForConditionalGeneration
from dpn_model.weights.original_fields import check_fields
from tests.model.test_weights import LLM, TO_ORIGINAL, TO_TIMM, VOCAB, build, drop_router_row, original_config, rename
from tests.model.test_weights import write_original as write

#: the config.json that the authors' code wrote for LLaVA-1.5
PUBLISHED: dict[str, Any] = {
    "_name_or_path": "llava-v1.5-7b",
    "architectures": ["LlavaLlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "freeze_mm_mlp_adapter": False,
    "freeze_mm_vision_resampler": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_length": 4096,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pad_token_id": 0,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "tune_mm_mlp_adapter": False,
    "tune_mm_vision_resampler": False,
    "unfreeze_mm_vision_tower": False,
    "use_cache": True,
    "use_mm_proj": True,
    "vocab_size": 32000,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
TAKEN: list[dict[str, Any]] = [
    {"rope_theta": 1e6},
    {"rope_scaling": {"type": "linear", "factor": 4.0}},
    {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4}},
    {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 4}, "rope_theta": 5e5},
    {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e5}},
    {"hidden_act": "gelu"},
    {"rms_norm_eps": 0.1},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope_type = 'dynamic'; allowed: default"),
    ({"rope_scaling": {"type": "unheard", "factor": 4.0}}, "unheard"),
    ({"sliding_window": 4096}, "sliding_window = 4096 is not supported; allowed: None"),
    ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0"),
    ({"embedding_multiplier": 12.0}, "embedding_multiplier = 12.0"),
    ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
    ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ({"image_aspect_ratio": "anyres"}, "image_aspect_ratio = 'anyres'; allowed: 'pad', 'square', None"),
    ({"mm_patch_merge_type": "spatial_unpad"}, "mm_patch_merge_type = 'spatial_unpad'; allowed: 'flat'"),
    ({"mm_projector_type": "linear"}, "mm_projector_type = 'linear'"),
    ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature = 'cls_patch'; allowed: 'patch'"),
    ({"mm_use_im_start_end": True}, "mm_use_im_start_end = True"),
    ({"s2": True, "s2_scales": "336,672"}, "s2 = True"),
    ({"mm_vision_tower": "google/siglip-so400m-patch14-384"}, "mm_vision_tower = 'google/siglip"),
    ({"model_type": "llava_mistral", "architectures": ["LlavaMistralForCausalLM"]}, "model_type = 'llava_mistral'"),
    ({"num_attention_heads": 5}, "LlamaConfig refuses it"),
]


@pytest.mark.parametrize("fields", [{}, {"mm_use_im_patch_token": True}, {"sliding_window": None, "use_moe": False}])
def test_published_fields_are_let_through(fields: dict[str, Any]) -> None:
    check_fields(PUBLISHED | fields)


@pytest.mark.parametrize("fields", TAKEN, ids=lambda fields: next(iter(fields)))
def test_what_changes_the_decoder_is_taken_over(fields: dict[str, Any], tmp_path: Path) -> None:
    """Held against transformers' LLaMA with the same fields; without them the hidden states differ."""
    plain = build("llava").eval()
    state = drop_router_row(plain.state_dict())
    write(tmp_path, original_config("llava", **fields), rename(state, TO_ORIGINAL))
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path)
    twin = LlamaForCausalLM(LlamaConfig(**LLM, vocab_size=VOCAB, **fields)).eval()
    names = {f"model.{n.removeprefix('model.language_model.')}": t for n, t in state.items() if ".language_model." in n}
    twin.load_state_dict(names | {"lm_head.weight": state["lm_head.weight"]})
    ids = torch.tensor([[1, 5, 3, 9, 4, 17, 2, 8, 11, 3]])
    logits = ours(ids).logits[0, :-1]
    torch.testing.assert_close(logits, twin(ids).logits[0, -1], atol=1e-6, rtol=1e-4)  # measured 6e-8
    assert (logits - plain(ids).logits[0, :-1]).abs().max() > 1e-5


@pytest.mark.parametrize(("fields", "told"), REFUSED, ids=[next(iter(fields)) for fields, _ in REFUSED])
def test_what_is_not_computed_is_refused(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    state = rename(drop_router_row(build("llava").state_dict()), TO_ORIGINAL)
    write(tmp_path, original_config("llava", **fields), state)
    with pytest.raises(ValueError, match=told) as error:
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["llava", "llava_hr"])
def test_a_head_that_is_the_embedding(kind: str, tmp_path: Path) -> None:
    state = rename(drop_router_row(build(kind).state_dict()), TO_ORIGINAL, TO_TIMM)
    headless = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    write(tmp_path, original_config(kind, tie_word_embeddings=True), headless)
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert len(model.lm_head.weight) == VOCAB + 1
    model.save_pretrained(tmp_path / "ours")
    again = DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert again.lm_head.weight is again.get_input_embeddings().weight
    write(tmp_path, original_config(kind), headless)
    with pytest.raises(ValueError, match="head is not in the checkpoint"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    write(tmp_path, original_config(kind, tie_word_embeddings=True), state)
    with pytest.raises(ValueError, match="tie_word_embeddings = True, but lm_head.weight differs"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
