"""Grounding DINO: what it is asked for, and its boxes from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForZeroShotObjectDetection, AutoTokenizer

from dpn_model.proposals import families
from dpn_model.proposals.contract import Limits
from dpn_model.proposals.grounding import Grounding, load_grounding
from dpn_model.proposals.nouns import nouns_of, prompts_of
from dpn_model.proposals.pictures import load_pictures
from tests.model.proposals.tiny_detectors import GROUNDING, QUERIES, pictures, save_detector, save_grounding

EVERYTHING = Limits(0, 1)
DETECT = "Please detect red circle; blue square in this image. Answer the question with object indexes."


@pytest.fixture(scope="module", params=list(GROUNDING))
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_grounding(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize(
    ("question", "nouns"),
    [
        (f"<image>\n{DETECT}", ["red circle", "blue square"]),
        ("Please detect Dog; dog;  St. Bernard in this image.", ["dog", "st bernard"]),
        ("How many cats are there in this image?", ["cats"]),
        (f"{DETECT}\nHow many dogs are there in this image?", ["red circle", "blue square", "dogs"]),
        ("<obj0><objfeat>\nWhat is left of the dog?", ["what is left of the dog?"]),
        ("<image>", []),
    ],
)
def test_nouns_of_a_question(question: str, nouns: list[str]) -> None:
    assert nouns_of(question) == nouns


def test_prompts_hold_as_many_nouns_as_fit() -> None:
    words = ["a", "b b", "c", "d d d d d d", "e"]
    assert prompts_of(words, lambda prompt: len(prompt.split()), 4) == ["a. b b. c.", "d d d d d d.", "e."]
    assert prompts_of([], len, 4) == []


def test_every_family_is_known() -> None:
    assert set(GROUNDING) == families.GROUNDING


def test_boxes_and_scores_are_the_models_own(folder: Path) -> None:
    (image,) = pictures((60, 40))
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    texts = AutoTokenizer.from_pretrained(folder)(["red circle. blue square."], return_tensors="pt")
    with torch.no_grad():
        outputs = model(**load_pictures(folder)(image), **texts)

    (proposed,) = load_grounding(folder, EVERYTHING).propose([image], [DETECT])

    scores = outputs.logits[0].sigmoid().amax(-1)
    order = scores.argsort(descending=True)
    cx, cy, w, h = outputs.pred_boxes[0][order].double().unbind(-1)
    corners = torch.stack([60 * (cx - w / 2), 40 * (cy - h / 2), 60 * (cx + w / 2), 40 * (cy + h / 2)], dim=-1)
    wanted = corners.numpy().clip(0, [60, 40, 60, 40])
    np.testing.assert_allclose(proposed.boxes, wanted, atol=2e-5)
    np.testing.assert_allclose(proposed.scores, scores[order], atol=1e-6)


def test_questions_of_other_lengths_beside_it_change_nothing(folder: Path) -> None:
    images = pictures((60, 40), (60, 40), (40, 60))
    questions = [DETECT, "How many dog are there?", "Please detect cat in this image."]
    source = load_grounding(folder, EVERYTHING)
    together = source.propose(images, questions)
    for image, question, found in zip(images, questions, together, strict=True):
        (alone,) = source.propose([image], [question])
        assert len(found) == QUERIES
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-4)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
    (other,) = source.propose(images[:1], ["Please detect dog in this image."])
    assert np.abs(other.scores - together[0].scores).max() > 1e-4


def test_what_does_not_fit_into_one_prompt_is_asked_in_two(tmp_path: Path) -> None:
    source = load_grounding(save_grounding(tmp_path, "grounding-dino", max_text_len=6), EVERYTHING)
    images = pictures((60, 40))
    (both,) = source.propose(images, [DETECT])
    parts = [source.propose(images, [f"detect {noun} in this image"])[0] for noun in ("red circle", "blue square")]
    assert len(both) == 2 * QUERIES
    np.testing.assert_allclose(both.scores, np.sort(np.concatenate([part.scores for part in parts]))[::-1], atol=1e-6)


def test_a_question_that_names_nothing_has_no_proposals(folder: Path) -> None:
    source = load_grounding(folder, EVERYTHING)
    nothing, something = source.propose(pictures((60, 40), (60, 40)), ["<image>", DETECT])
    assert (len(nothing), len(something)) == (0, QUERIES)


def test_the_usual_threshold_is_a_quarter(folder: Path) -> None:
    source: Grounding = load_grounding(folder)
    assert source.limits == Limits(0.25, 0.8)


def test_refusals(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="there are no questions"):
        load_grounding(folder).propose(pictures((60, 40)))
    with pytest.raises(ValueError, match="holds a model of type detr; asked in words are grounding-dino, mm-ground"):
        load_grounding(save_detector(tmp_path, "detr"))
