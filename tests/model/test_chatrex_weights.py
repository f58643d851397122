"""ChatRex checkpoints in every naming, read as the tensors that were written (spec chatrex 7)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.weights.chatrex import from_chatrex
from dpn_model.weights.folder import load_config
from dpn_model.weights.original import is_original
from tests.model.toy_chatrex_folders import (
    IMAGE,
    OBJECT,
    ROUTER,
    ROWS,
    SCHEMES,
    WORDS,
    build,
    checkpoint_tensors,
    config_json,
    renamed,
    write,
)
from tests.model.toy_folders import word_tokenizer

EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"
FILES = {"released": "shards", "rexseek": "one", "xtuner": "training", "ours": "pickle"}


def assert_read(model: DpnForConditionalGeneration, expected: dict[str, Tensor]) -> None:
    """Every tensor is the one that was written; only `<ROUTER>`'s row is new."""
    found = checkpoint_tensors(model)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("kind", "tied"), [("llama", False), ("llama", True), ("qwen2", False), ("qwen2", True)])
def test_every_naming_gives_the_tensors_that_were_written(scheme: str, kind: str, tied: bool, tmp_path: Path) -> None:
    source = build(kind, tied=tied)
    expected = checkpoint_tensors(source)
    names = renamed(expected, scheme, layer_scale="gamma" if scheme == "xtuner" else "ramma")
    assert scheme == "ours" or not names.keys() & (expected.keys() - {"lm_head.weight"})
    # Buffers that older versions of transformers stored.
    names[f"{SCHEMES[scheme][0]}embeddings.position_ids"] = torch.arange(17)[None]
    names[f"{SCHEMES[scheme][4]}layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    write(tmp_path, config_json(scheme, kind, tied=tied), names, FILES[scheme])
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert_read(model, expected)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    base = model.config.base
    assert (model.config.router_token_id, base.image_token_index, base.object_token_index) == (ROUTER, IMAGE, OBJECT)
    assert base.text_config.model_type == kind
    assert load_config(tmp_path).base.to_dict() == base.to_dict()
    source.state_dict()[EMBEDDING][ROUTER] = model.state_dict()[EMBEDDING][ROUTER]
    source.lm_head.weight.data[ROUTER] = model.lm_head.weight[ROUTER]
    ids = torch.tensor([[1, 5, *[IMAGE] * 16, 6, ROUTER, 7]])
    batch = {"input_ids": ids, "pixel_values": torch.randn(1, 3, 128, 128)}
    assert torch.equal(model(**batch).logits, source(**batch).logits)


#: of the spec's table, as they stand in files
NAMES = {
    "released": {
        "vision_tower.vision_model.pre_layrnorm.bias": "model.vision_tower.fast.pre_layrnorm.bias",
        "multi_modal_projector.linear_2.weight": "model.multi_modal_projector.2.weight",
        "language_model.model.layers.3.mlp.up_proj.weight": "model.language_model.layers.3.mlp.up_proj.weight",
        "language_model.lm_head.weight": "lm_head.weight",
    },
    "rexseek": {
        "vision_tower.vision_tower.vision_model.embeddings.class_embedding": (
            "model.vision_tower.fast.embeddings.class_embedding"
        ),
        "vision_tower_aux.vision_stem.0.weight": "model.vision_tower.slow.embeddings.patch_embeddings.weight",
        "vision_tower_aux.vision_stem.1.bias": "model.vision_tower.slow.embeddings.layernorm.bias",
        "vision_tower_aux.vision_stages.3.downsample.1.weight": (
            "model.vision_tower.slow.encoder.stages.3.downsampling_layer.1.weight"
        ),
        "vision_tower_aux.vision_stages.2.blocks.1.conv_dw.weight": (
            "model.vision_tower.slow.encoder.stages.2.layers.1.dwconv.weight"
        ),
        "vision_tower_aux.vision_stages.2.blocks.1.norm.weight": (
            "model.vision_tower.slow.encoder.stages.2.layers.1.layernorm.weight"
        ),
        "vision_tower_aux.vision_stages.2.blocks.1.mlp.fc2.bias": (
            "model.vision_tower.slow.encoder.stages.2.layers.1.pwconv2.bias"
        ),
        "vision_tower_aux.vision_stages.2.blocks.1.ramma": (
            "model.vision_tower.slow.encoder.stages.2.layers.1.layer_scale_parameter"
        ),
        "mm_object_projector.0.weight": "model.object_projector.0.weight",
        "model.layers.0.self_attn.q_proj.weight": "model.language_model.layers.0.self_attn.q_proj.weight",
        "lm_head.weight": "lm_head.weight",
    },
    "xtuner": {
        "visual_encoder.vision_model.post_layernorm.weight": "model.vision_tower.fast.post_layernorm.weight",
        "visual_encoder_aux.vision_stem.0.bias": "model.vision_tower.slow.embeddings.patch_embeddings.bias",
        "projector.model.0.weight": "model.multi_modal_projector.0.weight",
        "bbox_projector.model.2.bias": "model.object_projector.2.bias",
        "llm.model.norm.weight": "model.language_model.norm.weight",
        "llm.lm_head.weight": "lm_head.weight",
    },
}


@pytest.mark.parametrize("scheme", NAMES)
def test_names_in_files(scheme: str, tmp_path: Path) -> None:
    written = renamed(checkpoint_tensors(build("llama")), scheme)
    _, read = from_chatrex(config_json(scheme, "llama"), written, tmp_path)
    for theirs, ours in NAMES[scheme].items():
        tensor = written[theirs]
        assert torch.equal(read[ours][: len(tensor)], tensor), theirs  # the vocabulary has grown


def test_an_import_is_saved_as_ours(tmp_path: Path) -> None:
    expected = checkpoint_tensors(build("qwen2"))
    write(tmp_path, config_json("released", "qwen2"), renamed(expected, "released"))
    DpnForConditionalGeneration.from_pretrained(tmp_path).save_pretrained(tmp_path / "ours")
    again = DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert_read(again, expected)
    assert again.config.base.object_token_index == OBJECT


def test_types_of_numbers_are_kept_until_one_is_asked_for(tmp_path: Path) -> None:
    """As released: towers and projectors in float32, the decoder in 16 bits."""
    written = {
        name: tensor.to(torch.bfloat16) if "language_model" in name or "lm_head" in name else tensor
        for name, tensor in checkpoint_tensors(build("llama")).items()
    }
    config = config_json("released", "llama")
    _, read = from_chatrex(config, renamed(written, "released"), tmp_path)
    assert {name: tensor.dtype for name, tensor in read.items()} == {
        name: tensor.dtype for name, tensor in written.items()
    }
    write(tmp_path, config, renamed(written, "released"))
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert_read(model, {name: tensor.float() for name, tensor in written.items()})
    assert model.dtype == torch.float32
    model = DpnForConditionalGeneration.from_pretrained(tmp_path, dtype="auto")
    assert_read(model, {name: tensor.to(torch.bfloat16) for name, tensor in written.items()})


@pytest.mark.parametrize(
    ("model_type", "architectures"), [("chatrex", None), ("x", ["ChatRexForCausalLM"]), ("rexseek_qwen", None)]
)
def test_the_family_is_known_by_its_names(model_type: str, architectures: list[str] | None, tmp_path: Path) -> None:
    expected = checkpoint_tensors(build("qwen2"))
    config = config_json("rexseek", "qwen2", model_type=model_type, architectures=architectures)
    assert not is_original(config)
    write(tmp_path, config, renamed(expected, "rexseek"))
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert model.config.base.text_config.model_type == "qwen2"  # by the biases, where no name says so
    assert_read(model, expected)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_whole_configuration_of_transformers_is_read(kind: str, tmp_path: Path) -> None:
    source = build(kind)
    write(tmp_path, source.config.base.to_dict(), renamed(checkpoint_tensors(source), "ours"))
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert model.config.base.to_dict() == source.config.base.to_dict()
    assert_read(model, checkpoint_tensors(source))


@pytest.mark.parametrize("tied", [False, True])
def test_a_base_llm_gets_its_rows_on_loading(tied: bool, tmp_path: Path) -> None:
    whole = checkpoint_tensors(build("qwen2", tied=tied))
    base = {name: tensor[:WORDS] if name in (EMBEDDING, HEAD) else tensor for name, tensor in whole.items()}
    write(tmp_path, config_json("rexseek", "qwen2", tied=tied), renamed(base, "rexseek"))
    word_tokenizer(words=[f"w{number}" for number in range(WORDS - 3)]).save_pretrained(tmp_path)
    model = DpnForConditionalGeneration.from_pretrained(tmp_path)
    for weight, name in ((model.get_input_embeddings().weight, EMBEDDING), (model.lm_head.weight, HEAD)):
        given = base[EMBEDDING if tied else name]
        assert weight.shape == (ROWS + 1, 32)
        assert torch.equal(weight[:WORDS], given)
        torch.testing.assert_close(weight[WORDS:ROWS], given.mean(dim=0).expand(104, -1))
        assert 0.005 < weight[ROWS].std() < 0.05  # `<ROUTER>`'s is drawn
    base_config = model.config.base
    assert (model.config.router_token_id, base_config.text_config.vocab_size) == (ROWS, ROWS + 1)
    assert (base_config.image_token_index, base_config.object_token_index) == (ROWS + 1, ROWS + 2)
