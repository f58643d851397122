"""Names, shapes and sizes of the published ChatRex checkpoints, without their data (spec chatrex 1.1, 7, 10.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import named_base
from dpn_model.configuration import base_config
from dpn_model.weights.chatrex import from_chatrex
from dpn_model.weights.check import load_checked
from tests.model.toy_chatrex_folders import checkpoint_tensors, renamed

#: RexSeek-3B's, in the fields that are known of it
REXSEEK: dict[str, Any] = {
    "model_type": "rexseek_qwen",
    "architectures": ["RexSeekQwenForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 70,
    "tie_word_embeddings": True,
    "eos_token_id": 151645,
    "pad_token_id": 151643,
    "vocab_size": 151769,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "linear",
    "mm_hidden_size": 2560,
    "object_hidden_size": 2880,
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "tokenizer_model_max_length": 2048,
    "torch_dtype": "bfloat16",
}


def composed(name: str) -> dict[str, Any]:
    """A config.json that says what the decoder is, and nothing about the towers."""
    text = named_base(name).base_config["text_config"]
    return {"model_type": "chatrex", "text_config": {**text, "vocab_size": text["vocab_size"] - 1}}


def stored(model: DpnForConditionalGeneration, scheme: str) -> dict[str, Tensor]:
    """A model's checkpoint on the meta device: towers and projectors in float32, the decoder in 16 bits."""
    tensors = {
        name: torch.empty_like(tensor, dtype=torch.float16 if "language_model" in name or "head" in name else None)
        for name, tensor in checkpoint_tensors(model).items()
    }
    return renamed(tensors, scheme)


def count(tensors: dict[str, Tensor], *beginnings: str) -> int:
    return sum(name.startswith(beginnings) for name in tensors)


@pytest.mark.parametrize(
    ("name", "scheme", "config", "decoder", "total", "num_bytes"),
    [
        ("chatrex-7b-vicuna", "released", composed("chatrex-7b-vicuna"), 291, 1030, 15_700_886_272),
        ("chatrex-7b", "xtuner", composed("chatrex-7b"), 339, 1078, None),
        ("rexseek-3b", "rexseek", REXSEEK, 434, 1173, None),
    ],
)
def test_published_names_and_shapes_fit(
    name: str, scheme: str, config: dict[str, Any], decoder: int, total: int, num_bytes: int | None, tmp_path: Path
) -> None:
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))
    tensors = stored(model, scheme)
    assert len(tensors) == total
    if num_bytes is not None:
        assert sum(tensor.nbytes for tensor in tensors.values()) == num_bytes
    read, named = from_chatrex(config, tensors, tmp_path)
    fast, slow = "model.vision_tower.fast.", "model.vision_tower.slow."
    projectors = ("model.multi_modal_projector.", "model.object_projector.")
    assert (count(named, fast), count(named, slow), count(named, *projectors)) == (391, 340, 8)
    assert count(named, "model.language_model.", "lm_head.") == decoder
    assert read.router_token_id == model.config.router_token_id
    expected, found = base_config(name).base.to_dict(), read.base.to_dict()
    if scheme == "rexseek":  # of layers with a window, which no layer has
        expected["text_config"]["max_window_layers"] = REXSEEK["max_window_layers"]
    assert found == expected
    load_checked(model, named, name)


def parameters(*modules: nn.Module) -> int:
    return sum({one: one.numel() for module in modules for one in module.parameters()}.values())


@pytest.mark.parametrize(
    ("name", "objects", "image", "decoder"),
    [
        ("chatrex-7b-vicuna", 28_581_888, 27_271_168, 6_739_267_584),
        ("chatrex-7b", 23_174_144, 22_027_264, 7_613_501_952),
        ("rexseek-3b", 10_096_640, 9_441_280, None),
    ],
)
def test_published_numbers_of_parameters(name: str, objects: int, image: int, decoder: int | None) -> None:
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))
    base = model.model
    assert parameters(base.vision_tower.fast) == 303_507_456
    assert parameters(base.vision_tower.slow) == 196_227_264
    assert parameters(base.multi_modal_projector) == image
    assert parameters(base.object_projector) == objects
    if decoder is not None:  # `<ROUTER>`'s rows, of embedding and head, are ours
        width = model.config.base.text_config.hidden_size
        assert parameters(base.language_model, model.lm_head) - 2 * width == decoder
