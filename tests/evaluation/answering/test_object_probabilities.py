"""How sure a model is of the boxes it names: noted beside the answer, which stays what it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dpn_model.objects.record import Objects
from dpn_platform.demo.detection.base import build_tiny_chatrex
from dpn_platform.evaluation.answering.contract import Picture
from dpn_platform.evaluation.answering.loading import find_checkpoint, load_model
from dpn_platform.evaluation.answering.object_probabilities import ChosenProbabilities
from dpn_platform.evaluation.answering.packed_model import PackedModel


@pytest.fixture(scope="module")
def answering() -> PackedModel:
    torch.manual_seed(3)
    model, processor = build_tiny_chatrex()
    model.configure_method({"name": "dense"})
    # A model that was not trained: rows of boxes are made likely.
    rows = [processor.tokenizer.convert_tokens_to_ids(f"<obj{number}>") for number in range(4)]
    with torch.no_grad():
        model.get_input_embeddings().weight[rows] *= 3
    return PackedModel(model, processor, torch.device("cpu"), torch.float32)


def encoded(answering: PackedModel, question: str, shade: int, count: int):
    picture = Picture(str(shade), Image.new("RGB", (128, 128), (shade, 90, 120)))
    boxes = np.array([[8.0 * place, 4, 8 * place + 30, 60] for place in range(count)]).reshape(-1, 4)
    return answering.encode(question, [picture], Objects(boxes, (128, 128)))


def test_probabilities_are_those_of_the_tokens_that_were_written(answering: PackedModel) -> None:
    questions = [("detect red circle", 10, 4), ("what is <obj1> ?", 60, 3), ("which digit is there ?", 90, 0)]
    batch = [encoded(answering, *one) for one in questions]
    answers, _ = answering.answer(batch, 12)
    assert sum(len(one.object_probabilities or ()) for one in answers) >= 3
    for question, one in zip(batch, answers, strict=True):
        ids, mask, inputs, _ = answering._inputs([question])
        new = answering.model.generate(
            ids, mask, **inputs, max_new_tokens=12, do_sample=False, eos_token_id=answering.processor.end_ids,
            pad_token_id=answering.processor.pad_id, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        written = new.sequences[0, ids.shape[1] :].tolist()
        assert answering.processor.decode(written) == one.text
        wanted = [
            (answering.box_tokens[token], float(logits[0].softmax(dim=-1)[token]))
            for token, logits in zip(written, new.logits, strict=True)
            if token in answering.box_tokens
        ]
        assert one.object_probabilities is not None
        assert [index for index, _ in one.object_probabilities] == [index for index, _ in wanted]
        assert [p for _, p in one.object_probabilities] == pytest.approx([p for _, p in wanted], abs=2e-6)


def test_only_tokens_of_boxes_count_and_none_behind_the_end() -> None:
    chosen = ChosenProbabilities()
    scores = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]], [[5.0, 0.0], [0.0, 0.0]]])
    for step in scores:
        assert chosen(torch.zeros(2, 1, dtype=torch.long), step) is step
    found = chosen.of_boxes([[7, 8], [9, 7]], {7: 0, 8: 1})
    one, half = round(1 / (1 + np.exp(-1.0)), 6), 0.5
    assert found == [((0, one), (1, half)), ((0, half),)]


def test_models_without_boxes_say_nothing_of_them(save_checkpoint) -> None:
    model = load_model(find_checkpoint(save_checkpoint(name="dense")), use_gpu=False)
    answers, _ = model.answer([model.encode("what ?", [])], 3)
    assert answers[0].object_probabilities is None
