"""Answers that do not fit their boxes or questions are refused in one line; so is AP without its package."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from dpn_model.objects.record import Truth
from dpn_platform.benchmarks.objects.detection import detection_report
from dpn_platform.benchmarks.objects.image_answers import (
    ALL,
    CONSTANT,
    GIVEN,
    PROPOSAL,
    ImageAnswer,
    answer_set,
    categories_of,
)
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.objects.small_detections import CIRCLE, SQUARE, image_answer, of_the_specification

BOX = (10, 10, 20, 20)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], "no answer that names boxes: nothing to score"),
        (
            [image_answer("a", [(CIRCLE, BOX)], [BOX], {CIRCLE: (1,)})],
            "a: the answer was read as naming <obj1>, but 1 boxes were shown",
        ),
        (
            [image_answer("a", [(CIRCLE, BOX)], [BOX] * 101, {CIRCLE: ()})],
            "a: 101 boxes were shown; allowed: at most 100",
        ),
        ([image_answer("a", [(CIRCLE, BOX)], [BOX], {}, asked=[" . "])], "a: the question asks for nothing"),
        (
            [image_answer("a", [(CIRCLE, BOX)], [BOX, BOX], {CIRCLE: (0, 1)}, confidence={0: 0.5})],
            "a: the answer names <obj1> but there is no confidence of it",
        ),
    ],
)
def test_answers_that_do_not_fit(answers: list[ImageAnswer], told: str) -> None:
    with pytest.raises(DpnError, match=re.escape(told)):
        answer_set(answers, GIVEN)


def test_all_categories_must_be_asked_for_everywhere() -> None:
    answers = of_the_specification()
    with pytest.raises(DpnError) as refusal:
        detection_report(answers, ALL)
    assert str(refusal.value).startswith("im2: 1 of 2 categories were asked for, 'square' was not; an AP over all")
    whole = [replace(one, asked=("Square", "circle")) for one in answers]
    assert detection_report(whole, ALL, num_draws=5).categories == ALL
    # What is true but was asked for nowhere is missing as well.
    unasked = image_answer("im4", [("star", BOX)], [BOX], {}, asked=[CIRCLE, SQUARE])
    with pytest.raises(DpnError, match="'star' was not"):
        answer_set([*whole, unasked], ALL)


def test_questions_tell_which_categories_they_name() -> None:
    def kind(*rows: tuple[str, list[str], list[str]]) -> str:
        return categories_of([(image, asked, Truth(np.zeros((len(t), 4)), tuple(t), ())) for image, asked, t in rows])

    assert kind(("a", ["dog", "Cat."], ["dog"]), ("b", ["cat", "dog"], ["cat"])) == ALL
    assert kind(("a", ["dog"], ["dog"]), ("b", ["cat", "dog"], ["cat"])) == GIVEN
    assert kind(("a", ["dog"], ["dog"]), ("a", ["cat"], []), ("b", ["cat", "dog"], ["cat"])) == ALL, "in two questions"
    assert kind(("a", ["dog"], ["dog"]), ("b", ["dog"], ["dog"])) == GIVEN, "nothing is asked for that is not there"
    assert kind(("a", ["dog"], ["cow"]), ("b", ["dog"], [])) == GIVEN, "cows are asked for nowhere"


def test_boxes_are_ranked_by_what_every_answer_has() -> None:
    first, second, third = of_the_specification()
    assert answer_set([first, second], GIVEN).rankings == (PROPOSAL, CONSTANT)
    unscored = replace(third, shown=replace(third.shown, scores=None), confidence={0: 0.5, 1: 0.1})
    assert answer_set([first, unscored], GIVEN).rankings == (CONSTANT,)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(DpnError) as refusal:
        detection_report(of_the_specification())
    told = "AP needs the package faster-coco-eval, which is not installed: pip install 'dpn-lab[detection]'"
    assert str(refusal.value) == told
