"""Ids, labels and pictures: built from segments, so that they cannot disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpn_model.processing import DpnProcessor
from dpn_model.processing.conversation import VICUNA_SYSTEM, conversation_segments, normalise_question
from dpn_model.processing.images import PAD_COLOUR, normalise, pad_to_square, prepare_image


def _blank() -> Image.Image:
    return Image.new("RGB", (96, 96))


def test_labels_cover_answers_and_end_tokens_only(processor: DpnProcessor) -> None:
    sample = processor.encode_training([("<image>\nis it red ?", "yes"), ("a circle ?", "no")], [_blank()], router=True)
    said = sample.input_ids[sample.labels != -100]
    assert processor.tokenizer.convert_ids_to_tokens(said.tolist()) == ["yes", "</s>", "no", "</s>"]
    assert torch.equal(said, sample.labels[sample.labels != -100])
    tokens = processor.tokenizer.convert_ids_to_tokens(sample.input_ids.tolist())
    assert tokens[:2] == ["<s>", "USER:"]
    assert tokens.count("<image>") == 64
    assert [tokens[i + 1] for i, t in enumerate(tokens) if t == "<ROUTER>"] == ["ASSISTANT:"] * 2


def test_text_only_samples_get_no_router_token(processor: DpnProcessor) -> None:
    sample = processor.encode_training([("what is it", "one")], [], router=True)
    assert "<ROUTER>" not in processor.tokenizer.convert_ids_to_tokens(sample.input_ids.tolist())


def test_vicuna_layout_is_exact() -> None:
    segments = conversation_segments([("What <image> is it?", "x"), ("And?", None)], router=True)
    assert segments[0].text == f"{VICUNA_SYSTEM} USER: <image>\nWhat  is it?<ROUTER> ASSISTANT:"
    assert [s.text for s in segments[1:]] == ["x</s>", "USER: And?<ROUTER> ASSISTANT:"]
    assert [s.is_supervised for s in segments] == [False, True, False]
    assert normalise_question("look at this <image>") == "<image>\nlook at this"


def test_pad_to_square_centres_on_the_mean_colour() -> None:
    square = pad_to_square(Image.new("RGB", (10, 4), (255, 0, 0)))
    assert square.size == (10, 10)
    assert [square.getpixel((0, y)) == PAD_COLOUR for y in (2, 3, 6, 7)] == [True, False, False, True]


def test_normalise_is_clips() -> None:
    pixels = prepare_image(Image.new("RGB", (8, 8), (255, 0, 128)), 8)
    expected = (np.array([1.0, 0.0, 128 / 255]) - [0.48145466, 0.4578275, 0.40821073]) / [
        0.26862954,
        0.26130258,
        0.27577711,
    ]
    assert normalise(pixels[None])[0, :, 0, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_processor_survives_saving(processor: DpnProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = DpnProcessor.from_pretrained(tmp_path)
    turns = [("<image>\nis there a red circle ?", "yes")]
    first, second = (p.encode_training(turns, [_blank()], router=True).input_ids for p in (processor, again))
    assert torch.equal(first, second)


def test_placeholder_mismatch_is_named(processor: DpnProcessor) -> None:
    with pytest.raises(ValueError, match="1 <image> placeholders but 0 images"):
        processor.encode_training([("<image>\nis it", "yes")], [], router=False)
