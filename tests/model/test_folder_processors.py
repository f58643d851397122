"""Processors of checkpoints in the authors' layouts, as they are, and what is said where none can be made."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from dpn_model import DpnForConditionalGeneration
from dpn_model.processing import DpnProcessor, load_processor
from dpn_model.weights.folder import load_config
from tests.model.test_vicuna import ANSWER, ASSISTANT, EOS, SYSTEM_IDS, USER, WHAT_IS_IT
from tests.model.test_weight_pooling import RELEASED
from tests.model.toy_folders import original


def photo() -> Image.Image:
    return Image.linear_gradient("L").resize((40, 24)).convert("RGB")


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("llava", {"image_aspect_ratio": "pad"}, (16, 16, "pad", None, "expanded")),
        ("llava", {"tokenizer_model_max_length": 99}, (16, 16, "crop", 99, "expanded")),
        ("llava_hr", {"image_aspect_ratio": "pad"}, (128, 16, "pad", None, "text")),
        ("llava", {"image_aspect_ratio": "square", "pooling": "static"}, (16, 16, "crop", None, "text")),
    ],
)
def test_config_json_says_how_pictures_are_prepared(tmp_path: Path, kind: str, fields: dict, expected: tuple) -> None:
    if "pooling" in fields:
        layers = [{"index": 1, "kernel_size": 2, "stride": 2}]
        fields = fields | {"pooling": {**RELEASED, "type": "static", "layers": layers}}
    original(tmp_path, kind, **fields)
    processor = DpnProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, DpnProcessor)
    found = tuple(
        getattr(processor, name)
        for name in ("image_size", "tokens_per_image", "aspect_ratio", "max_length", "truncation")
    )
    assert found == expected
    assert processor.template == "vicuna_v1"


@pytest.mark.parametrize("kind", ["llava", "llava_hr"])
def test_an_original_folder_is_asked_and_exported(tmp_path: Path, kind: str) -> None:
    original(tmp_path / "base", kind)
    model, processor = (k.from_pretrained(tmp_path / "base") for k in (DpnForConditionalGeneration, DpnProcessor))
    assert processor.tokenizer.convert_tokens_to_ids("<ROUTER>") == model.config.router_token_id
    assert processor.image_token_id == model.image_token_id
    batch = processor(["w1 ?", "w2"], [photo(), None])
    logits = model(**batch).logits
    model.save_pretrained(tmp_path / "export")
    processor.save_pretrained(tmp_path / "export")
    again = DpnForConditionalGeneration.from_pretrained(tmp_path / "export")
    torch.testing.assert_close(
        again(**load_processor(tmp_path / "export")(["w1 ?", "w2"], [photo(), None])).logits, logits
    )


def test_a_configuration_needs_no_weights_in_memory(tmp_path: Path) -> None:
    """As `from_pretrained` finds it, from the shapes."""
    original(tmp_path, "llava_hr")
    whole = DpnForConditionalGeneration.from_pretrained(tmp_path).config
    assert load_config(tmp_path).to_dict() | {"dtype": None} == whole.to_dict() | {"dtype": None}


def test_another_way_of_preparing_pictures_is_named(tmp_path: Path) -> None:
    original(tmp_path, "llava", image_aspect_ratio="anyres")
    with pytest.raises(ValueError, match="image_aspect_ratio = 'anyres'"):
        DpnProcessor.from_pretrained(tmp_path)


def test_a_model_without_its_processor_says_what_is_missing(tmp_path: Path) -> None:
    original(tmp_path / "base", "llava")
    DpnForConditionalGeneration.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "saved")
    with pytest.raises(FileNotFoundError, match="no dpn_processor.json; the processor's save_pretrained writes it"):
        DpnProcessor.from_pretrained(tmp_path / "saved")


def test_a_slow_tokenizer_asks_for_its_library(tmp_path: Path, monkeypatch) -> None:
    original(tmp_path, "llava")
    config = load_config(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="has only tokenizer.model; the package sentencepiece, which reads it"):
        load_processor(tmp_path, config)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_folder_with_tokenizer_model_alone_keeps_the_ids(tmp_path: Path, legacy: bool) -> None:
    """Spec base-models B.3, in a folder that has LLaMA's real `tokenizer.model` and nothing else of a tokenizer."""
    folder = os.environ.get("DPN_VICUNA_TOKENIZER")
    if not folder or importlib.util.find_spec("sentencepiece") is None:
        pytest.skip("DPN_VICUNA_TOKENIZER does not name the folder of LLaMA's tokenizer, or sentencepiece is missing")
    original(tmp_path, "llava", vocab_size=32000)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    shutil.copy(Path(folder) / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        f'{{"tokenizer_class": "LlamaTokenizer", "legacy": {str(legacy).lower()}}}'
    )
    processor = DpnProcessor.from_pretrained(tmp_path)
    sample = processor.encode_training([("what is it?", "x"), ("what is it?", "x")], [], router=False)
    turn = [*USER, *WHAT_IS_IT, *ASSISTANT, ANSWER, EOS]
    assert sample.input_ids.tolist() == [1, *SYSTEM_IDS, *turn, *turn]
    assert [processor.tokenizer.convert_tokens_to_ids(text) for text in ("<ROUTER>", "<image>")] == [32000, 32001]
