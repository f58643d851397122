"""Files of tensors: nothing else is unpickled, large models are sharded, names of every layout meet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from dpn_model import DpnForConditionalGeneration
from dpn_model.weights.names import canonical_name, fit_vision_names
from dpn_model.weights.tensors import read_folder, write_folder


class Intruder:
    """Would run code when unpickled."""

    def __reduce__(self):
        return print, ("unpickled",)


def test_a_pickle_of_anything_else_is_refused(tmp_path: Path, capsys) -> None:
    torch.save({"model.norm.weight": Intruder()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"mm_projector_type": "mlp2x_gelu"}))
    with pytest.raises(ValueError, match="holds more than tensors and is refused"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert "unpickled" not in capsys.readouterr().out
    torch.save([torch.ones(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is not a dictionary of tensors"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)


def test_weights_of_a_training_file_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "meta": {"epoch": 3}}, tmp_path / "pytorch_model.bin")
    assert torch.equal(read_folder(tmp_path)["a"], torch.ones(2))
    torch.save({"state_dict": {"a": torch.ones(2)}, "meta": Intruder()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds more than tensors and is refused"):
        read_folder(tmp_path)
    torch.save({"state_dict": {"a": 3}}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is not a dictionary of tensors"):
        read_folder(tmp_path)


def test_large_models_are_written_in_shards(tmp_path: Path) -> None:
    tensors = {f"part.{number}": torch.full((10,), float(number)) for number in range(5)}
    write_folder(tmp_path, tensors, max_shard_bytes=85)
    assert sorted(file.name for file in tmp_path.glob("*.safetensors")) == [
        f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    again = read_folder(tmp_path)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00003"):
        read_folder(tmp_path)


def test_names_of_every_layout_meet(tmp_path: Path) -> None:
    for name, ours in {
        "model.layers.7.pooling_router.mlp1.0.bias": "reducers.8.router.mlp1.0.bias",
        "language_model.model.layers.3.mlp.up_proj.weight": "model.language_model.layers.3.mlp.up_proj.weight",
        "model.vision_tower.vision_model.post_layernorm.bias": "model.vision_tower.post_layernorm.bias",
        "vision_tower.align_stages.0.slow_proj.bias": "model.vision_tower.merge.slow_proj.bias",
        "model.vision_tower.slow_vision_tower.vision_tower.stages.2.blocks.26.gamma": (
            "model.vision_tower.slow.encoder.stages.2.layers.26.layer_scale_parameter"
        ),
        "model.language_model.norm.weight": "model.language_model.norm.weight",
        "model.object_projector.0.bias": "model.object_projector.0.bias",
    }.items():
        assert canonical_name(name) == ours
    assert canonical_name("model.vision_tower.vision_tower.vision_model.embeddings.position_ids") is None
    # Versions of transformers differ in CLIP's inner `vision_model`.
    for expected in ("model.vision_tower.fast.vision_model.x", "model.vision_tower.fast.x"):
        for given in ("model.vision_tower.fast.vision_model.x", "model.vision_tower.fast.x"):
            assert list(fit_vision_names({given: torch.ones(1)}, [expected])) == [expected]


def test_other_vlm_folder_is_read_by_transformers(tmp_path: Path) -> None:
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    text |= {"vocab_size": 40, "num_key_value_heads": 2}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
    theirs = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=31)
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(ours(ids).logits[0], theirs(ids).logits[0, -1], atol=1e-6, rtol=1e-4)  # measured 4e-8
    ours.save_pretrained(tmp_path / "ours")
    assert torch.equal(DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")(ids).logits, ours(ids).logits)
