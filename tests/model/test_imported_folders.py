"""LLaVA folders as transformers writes them: its own logits, answers and gradients, or a refusal by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PixtralVisionConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.weights.folder import load_config

SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}
ENDS = {"vocab_size": 94, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1}
IMAGE = 90
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0}


def clip(**fields) -> CLIPVisionConfig:
    return CLIPVisionConfig(**(SIZE | {"image_size": 32, "patch_size": 8} | fields))


def siglip(**fields) -> SiglipVisionConfig:
    return SiglipVisionConfig(**(SIZE | {"image_size": 32, "patch_size": 8} | fields))


def llama(**fields) -> LlamaConfig:
    return LlamaConfig(**(SIZE | ENDS | fields))


def stretched(**rope) -> LlamaConfig:
    """Rotary embeddings whose stretching acts within these prompts."""
    rope |= {"rope_theta": 10000.0, "original_max_position_embeddings": 16}
    return llama(rope_parameters=rope, max_position_embeddings=64)


def llava(text: LlamaConfig | Qwen2Config, vision: CLIPVisionConfig | SiglipVisionConfig, **fields) -> LlavaConfig:
    fields = {"image_token_index": IMAGE, "vision_feature_layer": -1} | fields
    return LlavaConfig(vision_config=vision, text_config=text, **fields)


def write(folder: Path, config: LlavaConfig, **how) -> LlavaForConditionalGeneration:
    """A model with weights that are not small, saved by transformers."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim > 1 else 0.1)
    model.save_pretrained(folder, **how)
    return model


def question(model: DpnForConditionalGeneration) -> tuple[Tensor, Tensor]:
    """Ids and pixels of one picture between words."""
    torch.manual_seed(3)
    side = model.config.base.vision_config.image_size
    ids = torch.tensor([[1, 7, *[IMAGE] * model.num_visual_tokens(), 9, 11]])
    return ids, torch.randn(1, 3, side, side)


FULL = {"vision_feature_select_strategy": "full"}
CONFIGS: dict[str, Callable[[], LlavaConfig]] = {
    "clip": lambda: llava(llama(), clip()),
    "tied": lambda: llava(llama(tie_word_embeddings=True), clip()),
    "tied outside": lambda: llava(llama(), clip(), tie_word_embeddings=True),
    "siglip": lambda: llava(llama(), siglip(image_size=37), **FULL),
    "three layers": lambda: llava(llama(), clip(num_hidden_layers=4), vision_feature_layer=[-2, -1, 1]),
    "projector": lambda: llava(llama(), clip(), multimodal_projector_bias=False, projector_hidden_act="relu"),
    "decoder": lambda: llava(
        llama(num_key_value_heads=2, attention_bias=True, mlp_bias=True, head_dim=32, hidden_act="gelu"), clip()
    ),
    "linear": lambda: llava(stretched(rope_type="linear", factor=4.0), clip()),
    "llama3": lambda: llava(stretched(**LLAMA3), clip()),
    "yarn": lambda: llava(stretched(**YARN), clip(hidden_act="gelu")),
    "qwen2": lambda: llava(
        Qwen2Config(**SIZE, **ENDS, num_key_value_heads=2, tie_word_embeddings=True), siglip(), **FULL
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_answers_and_gradients_are_transformers_own(name: str, tmp_path: Path) -> None:
    write(tmp_path, CONFIGS[name](), **({"max_shard_size": "60KB"} if name in ("tied", "decoder") else {}))
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path)
    ids, pixels = question(ours)
    logits = ours(ids, pixel_values=pixels).logits[0]
    expected = theirs(input_ids=ids, pixel_values=pixels).logits[0, -1]
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)  # measured 3e-7 of logits around 0.6
    asked = {"pixel_values": pixels, "max_new_tokens": 6, "do_sample": False}
    assert ours.generate(ids, **asked).tolist() == theirs.generate(input_ids=ids, **asked).tolist()
    labels = ids.masked_fill(torch.arange(ids.shape[1]) < ids.shape[1] - 2, -100)
    for model in (ours, theirs):
        model(input_ids=ids, pixel_values=pixels, labels=labels).loss.backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert gradients.keys() == dict(theirs.named_parameters()).keys()
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)  # measured 3e-7
    ours.save_pretrained(tmp_path / "ours")
    again = DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert torch.equal(again(ids, pixel_values=pixels).logits[0], logits)
    assert (again.lm_head.weight is again.get_input_embeddings().weight) == theirs.config.tie_word_embeddings


INNER = (r"(?<=vision_tower\.)(?=embeddings|encoder|pre|post)", "vision_model.")
LAYOUTS = {
    "on the Hub": (INNER,),
    "with a prefix": (
        (r"^language_model\.lm_head", "lm_head"),
        (r"^language_model\.model", "model.language_model"),
        (r"^(?=vision_tower|multi_modal)", "model."),
    ),
}
LAYOUTS["with a prefix, inner"] = (*LAYOUTS["with a prefix"], INNER)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_older_layouts_are_read(layout: str, kind: str, tmp_path: Path) -> None:
    model = write(tmp_path, CONFIGS["clip"]())
    tensors = {"vision_tower.vision_model.embeddings.position_ids": torch.arange(17)[None]}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        for old, new in LAYOUTS[layout]:
            name = re.sub(old, new, name)
        tensors[name] = tensor
    (tmp_path / "model.safetensors").unlink()
    if kind == "bin":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    assert ours.keys() == model.state_dict().keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            lambda: llava(llama(), siglip()),
            "vision_feature_select_strategy = 'default'.*allowed with siglip",
        ),
        (
            lambda: llava(llama(), PixtralVisionConfig(image_size=32, patch_size=8, **SIZE)),
            "vision_config.model_type = 'pixtral'; allowed in llava: clip_vision_model, siglip_vision_model",
        ),
        (lambda: llava(stretched(rope_type="dynamic", factor=4.0), clip()), "rope_type = 'dynamic'; allowed: default"),
    ],
)
def test_what_packed_batches_cannot_follow_is_refused(
    config: Callable[[], LlavaConfig], told: str, tmp_path: Path
) -> None:
    write(tmp_path, config())
    with pytest.raises(ValueError, match=f"config.json: .*{told}") as error:
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_keys_that_transformers_would_draw_or_drop_are_named(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["clip"]())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["multi_modal_projector.linear_2.weight"]
    tensors["language_model.model.norm.weight"] = torch.ones(7)
    tensors["language_model.model.layers.0.stranger"] = torch.ones(1)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="does not fit the model") as error:
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert "1 missing: model.multi_modal_projector.linear_2.weight" in str(error.value)
    assert "1 unexpected: model.language_model.layers.0.stranger" in str(error.value)
    assert "1 misshapen: model.language_model.norm.weight [7] instead of [64]" in str(error.value)


def test_ties_that_the_files_deny_are_not_made(tmp_path: Path) -> None:
    """As transformers does: a configuration that ties two different weights is the one that is wrong."""
    write(tmp_path, CONFIGS["clip"]())
    data = json.loads((tmp_path / "config.json").read_text())
    data["tie_word_embeddings"] = data["text_config"]["tie_word_embeddings"] = True
    (tmp_path / "config.json").write_text(json.dumps(data))
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path)
    ours.save_pretrained(tmp_path / "ours")
    for model in (ours, DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")):
        assert not model.config.tie_word_embeddings
        assert torch.equal(model.lm_head.weight, theirs.lm_head.weight)
        assert torch.equal(model.get_input_embeddings().weight, theirs.get_input_embeddings().weight)


@pytest.mark.parametrize("tied", [False, True])
def test_the_router_has_the_row_that_the_tokenizer_gives_it(tied: bool, tmp_path: Path) -> None:
    """Spare rows serve; without one a routing method brings it, drawn alike each time, and a dense model has none."""
    tokenizer = build_word_tokenizer(["red", "blue"])
    tokenizer.save_pretrained(tmp_path)
    text = json.loads((tmp_path / "tokenizer.json").read_text().replace("<ROUTER>", "<other>"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(text))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    rows = len(tokenizer)
    for spare in (3, 0):
        config = llava(llama(vocab_size=rows + spare, tie_word_embeddings=tied), clip(), image_token_index=4)
        write(tmp_path, config)
        models = [DpnForConditionalGeneration.from_pretrained(tmp_path) for _ in range(2)]
        for config in (load_config(tmp_path), models[0].config):
            assert (config.router_token_id, config.tie_word_embeddings) == (rows, tied)
            assert str(tmp_path) not in str(config.to_dict())
        assert len(models[0].lm_head.weight) == rows + spare
        before = models[0].lm_head.weight.clone()
        for model in models:
            model.configure_method(Method(name="dpn", sites=(1,)))
        head = models[0].lm_head.weight
        assert len(head) == rows + max(spare, 1)
        assert torch.equal(head[: len(before)], before)
        assert torch.equal(models[1].get_input_embeddings().weight, models[0].get_input_embeddings().weight)
        assert (head is models[0].get_input_embeddings().weight) == tied
        models[0].save_pretrained(tmp_path / "ours")
        assert torch.equal(DpnForConditionalGeneration.from_pretrained(tmp_path / "ours").lm_head.weight, head)
