"""Prompts with objects: layout, labels, boxes on the model's square, limits, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dpn_model.objects.boxes import box_array
from dpn_model.objects.record import Objects
from dpn_model.processing import DpnProcessor, picture_inputs
from dpn_model.processing.conversation import conversation_segments
from dpn_model.processing.object_processor import ObjectProcessor
from dpn_model.processing.square_processor import SquareProcessor
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import IMAGE_TEXT, OBJECT_TEXT, OBJECT_TOKENS

WORDS = "what is detect a dog cat in this image . yes".split()
PICTURE = Image.new("RGB", (640, 480))


def processor(kind: type[SquareProcessor] = ObjectProcessor, **changes: Any) -> Any:
    settings = {"image_size": 768, "tokens_per_image": 4, "template": "short", **changes}
    return kind(build_word_tokenizer(WORDS, objects=True), **settings)


def objects(count: int, *, scored: bool = True) -> Objects:
    boxes = [[100 + number, 100, 200 + number, 200] for number in range(count)]
    return Objects(box_array(boxes), (640, 480), np.linspace(1, 0, count) if scored else None)


def test_a_row_for_every_name_and_one_for_its_features() -> None:
    ours = processor()
    turns = [("<image>\ndetect a dog", "<ground>dog</ground><objects><obj1></objects>"), ("what is <obj0>", "a cat")]
    sample = ours.encode_training(turns, [PICTURE], router=True, objects=objects(2))
    told = ours.tokenizer.convert_ids_to_tokens(sample.input_ids)
    picture = [IMAGE_TEXT] * 4
    rows = ["<obj0>", OBJECT_TEXT, "<obj1>", OBJECT_TEXT]
    answer = ["<ground>", "dog", "</ground>", "<objects>", "<obj1>", "</objects>", "</s>"]
    second = ["USER:", "what", "is", "<obj0>", "<ROUTER>", "ASSISTANT:"]
    assert told == [
        *("<s>", "USER:", *picture, *rows, "detect", "a", "dog", "<ROUTER>", "ASSISTANT:"),
        *answer,
        *second,
        *("a", "cat", "</s>"),
    ]
    supervised = [token for token, label in zip(told, sample.labels.tolist(), strict=True) if label != -100]
    assert supervised == [*answer, "a", "cat", "</s>"]
    np.testing.assert_allclose(sample.tensors["boxes"][0], [120, 216, 240, 336])


def test_rows_of_objects_are_those_of_the_specs_example() -> None:
    """576 visual tokens, 50 boxes, 60 of text: 736 rows, 100 of them objects, none of them supervised."""
    ours = processor(tokens_per_image=576)
    bare = len(ours.encode_prompt("<image>\nwhat", [PICTURE], router=True).input_ids) - 576
    question = " ".join(["what"] * (61 - bare))
    sample = ours.encode_training([(f"<image>\n{question}", "yes")], [PICTURE], router=True, objects=objects(50))
    prompt = 576 + 100 + 60
    assert len(sample.input_ids) == prompt + 2
    assert (sample.labels[:prompt] == -100).all()


def test_a_line_stays_where_there_are_no_boxes() -> None:
    """The empty line is there (two newlines), and text alone has none."""
    turns = [("what <image>", None)]
    assert conversation_segments(turns, template="short", objects="")[0].text == "USER: <image>\n\nwhat ASSISTANT:"
    assert conversation_segments(turns, template="short")[0].text == "USER: <image>\nwhat ASSISTANT:"
    assert processor().encode_prompt("what is", [], router=False).tensors == {}


def test_qwens_layout_has_no_system_turn() -> None:
    segments = conversation_segments([("what", "a"), ("is", None)], template="qwen")
    assert [segment.text for segment in segments] == [
        "<|im_start|>user\nwhat<|im_end|>\n<|im_start|>assistant\n",
        "a<|im_end|>",
        "\n<|im_start|>user\nis<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_a_batch_of_ragged_boxes_keeps_them_on_the_host_in_full_precision() -> None:
    ours = processor()
    batch = ours(["detect a dog", "what is", "what"], [PICTURE, None, PICTURE], objects=[objects(3), None, objects(1)])
    assert batch["boxes"].shape == (4, 4)
    placed = picture_inputs(batch, torch.device("cpu"), torch.bfloat16)
    assert placed["boxes"].dtype == torch.float32
    assert placed["pixel_values"].dtype == torch.bfloat16
    assert "boxes" not in ours(["what"], [PICTURE])


def test_the_hundred_best_are_shown() -> None:
    sample = processor().encode_prompt("<image>\nwhat", [PICTURE], router=False, objects=objects(130))
    assert len(sample.tensors["boxes"]) == 100


def test_answers_keep_the_names_of_objects() -> None:
    ours = processor()
    ids = ours.tokenizer.convert_tokens_to_ids(["<ground>", "dog", "</ground>", "<objects>", "<obj7>", "</objects>"])
    text = ours.decode([*ids, *ours.end_ids, ours.pad_id])
    assert text.replace(" ", "") == "<ground>dog</ground><objects><obj7></objects>"


def test_saved_and_loaded(tmp_path: Any) -> None:
    processor(max_length=99).save_pretrained(tmp_path)
    again = DpnProcessor.from_pretrained(tmp_path)
    assert isinstance(again, ObjectProcessor)
    assert (again.max_length, again.image_size, again.template) == (99, 768, "short")


def test_tokens_stand_in_the_order_of_the_checkpoints() -> None:
    assert len(OBJECT_TOKENS) == 104
    assert OBJECT_TOKENS[99:102] == ("<obj99>", "<ground>", "</ground>")
    assert OBJECT_TOKENS[103] == "</objects>"


@pytest.mark.parametrize(
    ("turns", "pictures", "given", "told"),
    [
        ([("<image>\nwhat is <obj2>", "a")], 1, objects(2), "sample 7: <obj2> is named, but 2 boxes are shown"),
        ([("<image>\nwhat <objfeat>", "a")], 1, objects(1), "<objfeat> in a turn"),
        ([("<image>\nwhat", "<obj0>")], 1, None, "<obj0> is named, but 0 boxes are shown"),
        ([("what", "a")], 0, objects(2), "2 boxes and 0 images; allowed: boxes on one image"),
        ([("<image><image>what", "a")], 2, objects(2), "2 boxes and 2 images"),
        ([("<image>\nwhat", "a")], 1, objects(101, scored=False), "101 boxes without scores; allowed: at most 100"),
        ([("<image>\nwhat", "a")], 1, Objects(box_array([[0, 0, 9, 500]]), (640, 480)), "is outside the picture"),
    ],
)
def test_refusals(turns: list[tuple[str, str]], pictures: int, given: Objects | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        processor().encode_training(turns, [PICTURE] * pictures, router=False, sample_id=7, objects=given)


def test_a_caption_has_no_question_that_could_name_boxes() -> None:
    reading = processor(template="plain")
    sample = reading.encode_training([("<image>", "a dog")], [PICTURE], router=False, objects=objects(2))
    assert OBJECT_TEXT not in reading.tokenizer.convert_ids_to_tokens(sample.input_ids)
    assert sample.tensors == {}


def test_an_answer_ends_where_its_layout_ends_it() -> None:
    """Qwen's base tokenizers end texts with another token than conversations."""
    tokenizer = build_word_tokenizer(WORDS, objects=True)
    tokenizer.add_tokens(["<|im_end|>", "<|im_start|>"], special_tokens=True)
    ours = ObjectProcessor(tokenizer, image_size=768, tokens_per_image=4, template="qwen")
    assert tokenizer.convert_ids_to_tokens(ours.end_ids) == ["</s>", "<|im_end|>"]
    assert ours.decode([*tokenizer.convert_tokens_to_ids(["a", "dog", "<|im_end|>"])]) == "a dog"


def test_a_limit_inside_the_objects_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length = 8 falls inside 2 objects"):
        processor(max_length=8).encode_prompt("<image>\nwhat", [PICTURE], router=False, objects=objects(2))


def test_other_models_take_no_boxes() -> None:
    with pytest.raises(ValueError, match="it brings boxes, which this model is not made for; bases that are: chatrex"):
        processor(SquareProcessor).encode_prompt("<image>\nwhat", [PICTURE], router=False, objects=objects(1))
