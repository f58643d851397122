"""A finished evaluation, and a checkpoint of a tiny model in a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.tiny import tiny_config
from dpn_platform.data.published.schema import shard_table
from dpn_platform.demo.families import VOCABULARY


@pytest.fixture(scope="session")
def save_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes a from_pretrained folder of a tiny model with a method attached."""

    def save(**method: Any) -> str:
        torch.manual_seed(0)
        tokenizer = build_word_tokenizer(VOCABULARY)
        model = DpnForConditionalGeneration(tiny_config(len(tokenizer)))
        model.configure_method(Method(**method))
        model.config.router_token_id = tokenizer.convert_tokens_to_ids("<ROUTER>")
        folder = tmp_path_factory.mktemp("checkpoint")
        model.save_pretrained(folder)
        processor = DpnProcessor(
            tokenizer,
            image_size=model.config.base.vision_config.image_size,
            tokens_per_image=model.num_visual_tokens(),
            template="short",
        )
        processor.save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def rows_table() -> pa.Table:
    """Twelve rows of the data set's schema: two of three have a picture, one in four has a second turn."""
    return shard_table([_row(number) for number in range(12)])


def _row(number: int) -> dict[str, Any]:
    has_image = number % 3 > 0
    words = ["what", "colour", "is", "at", "row", "one", "?"][: 3 + number % 5]
    turns = [("<image>\n" if has_image else "") + " ".join(words), "red"]
    turns += ["how many circles are there ?", "two"] if number % 4 == 0 else []
    conversation = [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(turns)]
    return {
        "row_id": 100 + number,
        "source_row": number,
        "id": f"sample-{number}",
        "split": "test",
        "source": "colour" if has_image else "text",
        "difficulty": "easy",
        "conversations": json.dumps(conversation),
        "num_turns": len(turns) // 2,
        "text_length": sum(map(len, turns)),
        "prompt_tokens": 8,
        "answer_tokens": 1,
        "expected_cost": 9,
        "has_image": has_image,
        "width": 24 if has_image else None,
        "height": 16 if has_image else None,
        "image": _jpeg(number) if has_image else None,
    }


def _jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def shards_folder(tmp_path: Path, rows_table: pa.Table) -> Path:
    """The twelve rows as two shards."""
    import pyarrow.parquet as pq

    for index in range(2):
        pq.write_table(rows_table.slice(6 * index, 6), tmp_path / f"{index}.parquet")
    return tmp_path
