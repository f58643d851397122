"""Rows become tensors: the same from numpy columns and from an Arrow table."""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from dpn_model.processing import DpnProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.data.reading.collate import DamagedRowError, SampleCollator, parse_turns

SIZE = 16


def row(number: int, colour: tuple[int, int, int] | None) -> dict[str, Any]:
    """One row of the stream; text only without a colour."""
    image = None
    if colour:
        buffer = io.BytesIO()
        Image.new("RGB", (SIZE, SIZE), colour).save(buffer, "PNG")
        image = buffer.getvalue()
    question = "<image>\nwhat is it ?" if image else "what is it ?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": f"thing {number}"}]
    return {
        "row_id": number,
        "sample_key": 100 + number,
        "source": "picture" if image else "text",
        "conversations": json.dumps(turns),
        "image": image,
    }


@pytest.fixture
def table() -> pa.Table:
    """A red picture, a text, a blue picture."""
    rows = [row(0, (255, 0, 0)), row(1, None), row(2, (0, 0, 255))]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def processor() -> DpnProcessor:
    """Of a tiny model with four visual tokens."""
    tokenizer = build_word_tokenizer(["what", "is", "it", "?", "thing", "0", "1", "2"])
    return DpnProcessor(tokenizer, image_size=SIZE, tokens_per_image=4, template="short")


def test_turns_are_parsed_in_pairs() -> None:
    assert parse_turns(row(3, None)["conversations"]) == [("what is it ?", "thing 3")]


def test_mixed_batch_is_encoded(processor: DpnProcessor, table: pa.Table) -> None:
    batch = SampleCollator(processor, router=True)(table)

    assert batch["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert batch["pixel_values"][:, :, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert batch["sample_keys"].tolist() == [100, 101, 102]
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert (batch["input_ids"] == image_id).sum(dim=1).tolist() == [4, 0, 4]
    assert (batch["labels"] != -100).sum(dim=1).tolist() == [3, 3, 3]  # "thing", number, end


def several(number: int, *colours: tuple[int, int, int]) -> dict[str, Any]:
    """A row with several pictures, and as many placeholders."""
    first, *rest = [row(number, colour) for colour in colours]
    first["conversations"] = first["conversations"].replace("<image>", "<image> <image>" + " <image>" * (len(rest) - 1))
    return {**first, "more_images": [other["image"] for other in rest]}


def test_several_pictures_of_a_row_keep_their_places(processor: DpnProcessor) -> None:
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    rows = [row(0, blue), several(1, red, green, blue), row(2, None), several(0, green, red)]
    batch = SampleCollator(processor, router=True)(pa.Table.from_pylist([{"more_images": None, **one} for one in rows]))

    shown = batch["pixel_values"][:, :, 0, 0].tolist()
    assert shown == [list(colour) for colour in (blue, red, green, blue, green, red)]
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert (batch["input_ids"] == image_id).sum(dim=1).tolist() == [4, 12, 0, 8]


def test_a_cut_sample_keeps_whole_pictures(processor: DpnProcessor) -> None:
    long = several(0, (255, 0, 0), (0, 255, 0))
    long["conversations"] = json.dumps(
        [
            {"from": "human", "value": "<image>\nwhat is it ?"},
            {"from": "gpt", "value": "thing 0"},
            {"from": "human", "value": "<image>\nwhat is it ?"},
            {"from": "gpt", "value": "thing 1"},
        ]
    )
    processor.max_length = 15  # the first round has 14 tokens with its picture
    batch = SampleCollator(processor, router=True)(pa.Table.from_pylist([long]))

    assert batch["pixel_values"][:, :, 0, 0].tolist() == [[255, 0, 0]]
    assert (batch["labels"] != -100).sum() == 3


def test_text_only_batch_has_no_pixels(processor: DpnProcessor, table: pa.Table) -> None:
    assert SampleCollator(processor, router=False)(table.slice(1, 1))["pixel_values"] is None


def test_an_answer_behind_the_limit_leaves_no_label(processor: DpnProcessor, table: pa.Table) -> None:
    processor.max_length = 9  # <s>, the picture's 4 and the question's 4: the text-only sample keeps its answer

    labels = SampleCollator(processor, router=False)(table)["labels"]

    assert (labels != -100).any(dim=1).tolist() == [False, True, False]


def test_numpy_batch_and_pickled_collator_give_the_same(processor: DpnProcessor, table: pa.Table) -> None:
    collator = SampleCollator(processor, router=True, num_threads=1)
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}
    columns["row_id"] = np.array([0, 1, 2])

    one, other = collator(table), pickle.loads(pickle.dumps(collator))(columns)

    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("decode", ["full", "fast"])
@pytest.mark.parametrize(
    ("column", "value", "what"),
    [("image", b"\x89PNG cut", "picture"), ("image", b"", "picture"), ("conversations", "[{", "conversation")],
)
def test_a_damaged_row_is_named(processor: DpnProcessor, decode: Any, column: str, value: Any, what: str) -> None:
    rows = [row(0, (255, 0, 0)), {**row(7, (0, 255, 0)), column: value}]

    with pytest.raises(DamagedRowError, match=f"row 7: its {what} cannot be read") as refusal:
        SampleCollator(processor, router=True, decode=decode)(pa.Table.from_pylist(rows))

    assert refusal.value.row_id == 7
    assert "\n" not in str(refusal.value)
