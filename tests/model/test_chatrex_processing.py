"""Folders of ChatRex's authors as they are asked: their tokenizer taught, their templates, ids that the model has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlamaTokenizer

from dpn_model import DpnForConditionalGeneration
from dpn_model.configuration import base_config
from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import Objects
from dpn_model.processing import load_processor
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.original import fit_tokenizer, object_settings
from dpn_model.special_texts import OBJECT_TEXT, OBJECT_TOKENS
from tests.model.toy_chatrex_folders import (
    IMAGE,
    OBJECT,
    ROUTER,
    WORDS,
    build,
    checkpoint_tensors,
    config_json,
    renamed,
    write,
)
from tests.model.toy_folders import word_tokenizer

SHOWN = Objects(box_array([[0, 0, 10, 10], [5, 5, 30, 20]]), (40, 30))
PICTURE = Image.new("RGB", (40, 30))


@pytest.mark.parametrize(("scheme", "kind"), [("rexseek", "qwen2"), ("released", "llama")])
@pytest.mark.parametrize("knows", [True, False])
def test_a_folder_of_the_authors_can_be_asked(scheme: str, kind: str, knows: bool, tmp_path: Path) -> None:
    write(tmp_path, config_json(scheme, kind), renamed(checkpoint_tensors(build(kind)), scheme))
    tokenizer = word_tokenizer(words=[f"w{number}" for number in range(WORDS - 3)])
    tokenizer.add_tokens(list(OBJECT_TOKENS) if knows else [], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    model, processor = DpnForConditionalGeneration.from_pretrained(tmp_path).eval(), load_processor(tmp_path)
    assert isinstance(processor, ObjectProcessor)
    assert processor.template == ("qwen" if kind == "qwen2" else "short")
    assert (processor.image_token_id, processor.max_length) == (IMAGE, 2048)
    batch = processor(["w1 w2"], [PICTURE], objects=[SHOWN])
    ids = batch["input_ids"][0].tolist()
    assert ids.count(OBJECT) == 2
    assert ids.count(ROUTER) == 1
    assert [one for one in ids if WORDS <= one < WORDS + 2] == [WORDS, WORDS + 1]  # <obj0>, <obj1>
    with torch.no_grad():
        out = model.generate(**batch, max_new_tokens=3, do_sample=False)
    assert out.shape[1] > len(ids)


def test_ids_are_those_of_the_released_weights() -> None:
    """added_tokens.json of the release (spec chatrex 1.3), on the tokenizer they were added to."""
    folder = os.environ.get("DPN_VICUNA_TOKENIZER")
    if not folder:
        pytest.skip("DPN_VICUNA_TOKENIZER does not name the folder of LLaMA's tokenizer")
    config: Any = base_config("chatrex-7b-vicuna")
    tokenizer = LlamaTokenizer.from_pretrained(folder, add_bos_token=True)
    fit_tokenizer(tokenizer, config)
    texts = [
        "<obj0>",
        "<obj99>",
        "<ground>",
        "</ground>",
        "<objects>",
        "</objects>",
        "<ROUTER>",
        "<image>",
        OBJECT_TEXT,
    ]
    assert tokenizer.convert_tokens_to_ids(texts) == [32000, 32099, 32100, 32101, 32102, 32103, 32104, 32105, 32106]
    processor = ObjectProcessor(tokenizer, **object_settings({}, config))
    question = "<image>\nPlease detect dog in this image. Answer the question with object indexes."
    sample = processor.encode_prompt(question, [PICTURE], router=False, objects=SHOWN)
    ids = sample.input_ids.tolist()
    # BOS, "USER", ":", a blank in front of the picture; a line's end, then names and features of both objects.
    assert ids[: ids.index(32105)] == [1, 3148, 1001, 29901, 29871]
    behind = ids[len(ids) - ids[::-1].index(32105) :]
    assert [one for one in behind if one >= 32000] == [32000, 32106, 32001, 32106]
