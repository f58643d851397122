"""A finished evaluation, and a checkpoint of a tiny model in a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
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
from dpn_platform.config.load import parse_config
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split, fingerprint_of, publish_manifest
from dpn_platform.data.published.schema import SCHEMA_VERSION, content_digest, shard_bytes, shard_table
from dpn_platform.demo.families import VOCABULARY
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import evaluate


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


@pytest.fixture(scope="session")
def publish(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Publishes rows as a data set with one split, six rows to a shard; returns its folder."""

    def make(table: pa.Table, split: str = "test") -> str:
        folder = tmp_path_factory.mktemp("published")
        shards = []
        for index in range(0, table.num_rows, 6):
            part = table.slice(index, 6)
            data = shard_bytes(part)
            (folder / f"{index}.parquet").write_bytes(data)
            first = part.column("row_id")[0].as_py()
            shards.append(
                Shard(
                    path=f"{index}.parquet", rows=part.num_rows, first_row_id=first, bytes=len(data),
                    sha256="", content_sha256=content_digest(part),
                )
            )  # fmt: skip
        images = sum(table.column("has_image").to_pylist())
        rows = table.num_rows
        splits = {split: Split(rows=rows, images=images, text_only=rows - images, sources={}, shards=tuple(shards))}
        manifest = Manifest(
            schema_version=SCHEMA_VERSION, name="small", source="", splits=splits, quarantine=Quarantine(),
            fingerprint=fingerprint_of(splits),
        )  # fmt: skip
        publish_manifest(str(folder), manifest)
        return str(folder)

    return make


@pytest.fixture(scope="session")
def evaluated(publish: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """(checkpoint, table, settings of `eval`) -> the result on those rows, answered in this process."""

    def make(checkpoint: str, table: pa.Table, main: Variant = AS_IT_IS, **settings: Any) -> EvaluationResult:
        config = parse_config(
            {"name": "e", "data": {"uri": publish(table)}, "eval": {"max_new_tokens": 3, **settings}}, "test"
        )
        output_uri = str(tmp_path_factory.mktemp("evaluation"))
        return evaluate(checkpoint, config, output_uri=output_uri, main=main, in_this_process=True)

    return make
