"""Decoding: the full path is the model's own preparation to the bit, the fast one is near it."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import prepare_image
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.data.reading.collate import SampleCollator, decode_image

SIZE = 336


def photograph(width: int, height: int) -> bytes:
    coarse = np.random.default_rng(width).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pixels(decode: str, *pictures: bytes) -> torch.Tensor:
    tokenizer = build_word_tokenizer(["what", "that"])
    processor = DpnProcessor(tokenizer, image_size=SIZE, tokens_per_image=4, template="short")
    turns = json.dumps([{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "that"}])
    rows = [
        {"row_id": number, "sample_key": number, "source": "x", "conversations": turns, "image": data}
        for number, data in enumerate(pictures)
    ]
    return SampleCollator(processor, router=False, decode=decode)(pa.Table.from_pylist(rows))["pixel_values"]


@pytest.mark.parametrize("shape", [(320, 240), (56, 56), (90, 200), (40, 30)])
def test_full_is_the_models_own_preparation(shape: tuple[int, int]) -> None:
    data = photograph(*shape)

    assert torch.equal(pixels("full", data)[0], prepare_image(decode_image(data), SIZE))


@pytest.mark.parametrize("shape", [(640, 480), (1400, 900), (90, 200)])
def test_fast_is_near(shape: tuple[int, int]) -> None:
    data = photograph(*shape)
    full, fast = (pixels(decode, data)[0].float() for decode in ("full", "fast"))

    inner = slice(SIZE // 4, 3 * SIZE // 4)  # the border to the padding may lie a pixel aside
    error = (full - fast)[:, inner, inner].square().mean()
    assert 10 * torch.log10(255**2 / error) > 34  # measured: equal, 51.5 and 35.2 dB
