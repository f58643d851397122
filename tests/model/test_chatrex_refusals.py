"""What a ChatRex folder must not be: every refusal is one line that names what is wrong (spec chatrex 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from tests.model.toy_chatrex_folders import CLIP, CONVNEXT, build, checkpoint_tensors, config_json, renamed, write

ADDED: dict[str, tuple[dict[str, Tensor], str]] = {
    "another width of the image projector": (
        {"mm_projector.0.weight": torch.ones(32, 63)},
        r"image projector is not in the checkpoint: .* takes 64 channels.*mm_projector.0.weight \[32, 63\]",
    ),
    "another width of the object projector": (
        {"mm_object_projector.0.weight": torch.ones(32, 55)},
        r"object projector is not in the checkpoint: .* takes 56 channels.*mm_object_projector.0.weight \[32, 55\]",
    ),
    "another width behind a projector": (
        {"mm_projector.2.weight": torch.ones(31, 32)},
        r"1 misshapen: model.multi_modal_projector.2.weight \[31, 32\] instead of \[32, 32\]",
    ),
    "another width in the decoder": (
        {"model.norm.weight": torch.ones(31)},
        r"1 misshapen: model.language_model.norm.weight \[31\] instead of \[32\]",
    ),
    "two projectors": (
        {"mm_projector_old.0.weight": torch.ones(32, 64)},
        "2 tensors of the checkpoint could begin the image projector; allowed: one of mm_projector.0.weight, "
        "mm_projector_old.0.weight",
    ),
    "two decoders": (
        {"draft.embed_tokens.weight": torch.ones(4, 4)},
        "2 tensors of the checkpoint could begin the decoder; allowed: one of",
    ),
    "two towers": (
        {"teacher.vision_model.embeddings.class_embedding": torch.ones(40)},
        "2 tensors of the checkpoint could begin CLIP; allowed: one of",
    ),
    "two heads": ({"draft.lm_head.weight": torch.ones(4, 4)}, "could begin the decoder's head; allowed: one of"),
    "two layer scales": (
        {"vision_tower_aux.vision_stages.2.blocks.1.gamma": torch.ones(16)},
        "two tensors of the checkpoint are model.vision_tower.slow.encoder.stages.2.layers.1.layer_scale_parameter",
    ),
    "an extra tensor": ({"fuse_module.weight": torch.ones(1)}, "1 unexpected: fuse_module.weight"),
    "an extra layer": ({"mm_projector.4.bias": torch.ones(1)}, "1 unexpected: model.multi_modal_projector.4.bias"),
    "ConvNeXt's last norm": (
        {"vision_tower_aux.norm_pre.weight": torch.ones(24)},
        "1 unexpected: vision_tower_aux.norm_pre.weight",
    ),
}
WITHOUT: dict[str, tuple[str, str]] = {
    "CLIP": ("vision_tower.vision_tower.", "CLIP is not in the checkpoint: no name ends with embeddings.class_emb"),
    "ConvNeXt": ("vision_tower_aux.", "ConvNeXt is not in the checkpoint: no name ends with vision_stem.0.weight or"),
    "decoder": ("model.", "the decoder is not in the checkpoint: no name ends with embed_tokens.weight"),
    "head": ("lm_head.", "the decoder's head is not in the checkpoint"),
    "image projector": ("mm_projector.", "image projector is not .*found: mm_object_projector.0.weight"),
    "object projector": ("mm_object_projector.", "object projector is not .*found: mm_projector.0.weight"),
    "block of ConvNeXt": (
        "vision_tower_aux.vision_stages.2.blocks.1.",
        "9 missing: model.vision_tower.slow.encoder.stages.2.layers.1.dwconv.bias",
    ),
    "stage of ConvNeXt": ("vision_tower_aux.vision_stages.1.", "13 missing: model.vision_tower.slow.encoder.stages.1"),
    "block of CLIP": (
        "vision_tower.vision_tower.vision_model.encoder.layers.2.",
        "16 missing: model.vision_tower.fast.encoder.layers.2.",
    ),
    "block of the decoder": ("model.layers.3.", "12 missing: model.language_model.layers.3."),
    "a bias of Qwen2's": (
        "model.layers.3.self_attn.k_proj.bias",
        "1 missing: model.language_model.layers.3.self_attn.k_proj.bias",
    ),
}


def refuse(folder: Path, told: str) -> None:
    with pytest.raises(ValueError, match=told) as error:
        DpnForConditionalGeneration.from_pretrained(folder)
    assert "\n" not in str(error.value)


def tensors(kind: str = "qwen2") -> dict[str, Tensor]:
    """In RexSeek's naming."""
    return renamed(checkpoint_tensors(build(kind)), "rexseek")


@pytest.mark.parametrize(("added", "told"), ADDED.values(), ids=ADDED)
def test_tensors_that_do_not_belong(added: dict[str, Tensor], told: str, tmp_path: Path) -> None:
    write(tmp_path, config_json("rexseek", "qwen2"), tensors() | added)
    refuse(tmp_path, told)


@pytest.mark.parametrize(("beginning", "told"), WITHOUT.values(), ids=WITHOUT)
def test_parts_that_are_absent(beginning: str, told: str, tmp_path: Path) -> None:
    left = {name: tensor for name, tensor in tensors().items() if not name.startswith(beginning)}
    write(tmp_path, config_json("rexseek", "qwen2"), left)
    refuse(tmp_path, told)


def test_a_decoder_of_the_other_kind(tmp_path: Path) -> None:
    write(tmp_path, config_json("released", "llama"), renamed(checkpoint_tensors(build("qwen2")), "released"))
    refuse(tmp_path, "12 unexpected: model.language_model.layers.0.self_attn.k_proj.bias")
    write(tmp_path, config_json("released", "qwen2"), renamed(checkpoint_tensors(build("llama")), "released"))
    refuse(tmp_path, "12 missing: model.language_model.layers.0.self_attn.k_proj.bias")


def test_a_head_that_is_not_the_embedding(tmp_path: Path) -> None:
    write(tmp_path, config_json("rexseek", "qwen2", tied=True), tensors())
    refuse(tmp_path, "tie_word_embeddings = True, but lm_head.weight differs from .*; allowed: False")


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"mm_hidden_size": 2560}, "mm_hidden_size = 2560; allowed: 64"),
    ({"object_hidden_size": 2880}, "object_hidden_size = 2880; allowed: 56"),
    ({"mm_vision_select_feature": "cls_patch"}, "mm_vision_select_feature = 'cls_patch'; allowed: 'patch'"),
    ({"mm_patch_merge_type": "spatial"}, "mm_patch_merge_type = 'spatial'; allowed: 'flat'"),
    ({"mm_vision_tower": "google/siglip-so400m"}, "mm_vision_tower = 'google/siglip-so400m'; allowed: a CLIP"),
    ({"quantization_config": {"bits": 4}}, "quantization_config = .*; allowed: None"),
    ({"pooling": {"type": "adaptive"}}, "pooling = .* is not supported; allowed: None, or no such field"),
    ({"final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0 is not supported"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type = 'dynamic'; allowed: default"),
    ({"num_hidden_layers": 5}, "12 missing: model.language_model.layers.4."),
    ({"image_size": 96}, "image_size = 96: ConvNeXt's grid is 3x3, CLIP's 4x4; allowed: 128"),
    (
        {"vision_config": CLIP | {"model_type": "siglip"}},
        "vision_config.model_type = 'siglip'; allowed: clip_vision_mo",
    ),
    ({"vision_config": CLIP | {"use_registers": 4}}, "vision_config.use_registers = 4 is not supported"),
    ({"vision_config": CLIP | {"num_hidden_layers": 2}}, "16 unexpected: model.vision_tower.fast.encoder.layers.2."),
    ({"slow_vision_config": CONVNEXT | {"use_grn": True}}, "slow_vision_config.use_grn = True is not supported"),
    ({"slow_vision_config": CONVNEXT | {"depths": [1, 1, 3, 1]}}, "9 missing: model.vision_tower.slow.encoder.stages"),
    (
        {"vision_config": None},
        r"no vision_config, .* not the published CLIP ViT-L/14-336: .*\[40, 3, 8, 8\] instead of",
    ),
    (
        {"slow_vision_config": None},
        r"no slow_vision_config, .* ConvNeXt-L: .*\[8, 3, 4, 4\] instead of \[192, 3, 4, 4\]",
    ),
]


@pytest.mark.parametrize(
    ("fields", "told"), FIELDS, ids=[f"{next(iter(fields))} {n}" for n, (fields, _) in enumerate(FIELDS)]
)
def test_fields_that_are_not_supported(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    write(tmp_path, config_json("rexseek", "qwen2", **fields), tensors())
    refuse(tmp_path, told)


def test_decoders_that_are_not_supported(tmp_path: Path) -> None:
    config, names = config_json("released", "llama"), renamed(checkpoint_tensors(build("llama")), "released")
    write(tmp_path, config | {"text_config": config["text_config"] | {"model_type": "mistral"}}, names)
    refuse(tmp_path, "text_config.model_type = 'mistral'; allowed: llama, qwen2")
    write(tmp_path, config | {"text_config": config["text_config"] | {"sliding_window": 64}}, names)
    refuse(tmp_path, "text_config.sliding_window = 64 is not supported; allowed: None")
