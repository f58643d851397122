"""One answered question about the objects of a picture, and all of them class by class: what detection is scored on.

Shape letters: D boxes that answers name, M true boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_model.objects.answers import ParsedAnswer, by_category, category_key
from dpn_model.objects.boxes import FloatArray, IntArray, box_array
from dpn_model.objects.record import Objects, Truth
from dpn_model.special_texts import MAX_OBJECTS
from dpn_platform.config.errors import DpnError

#: which categories a question names: those of its own picture, or those of the whole set
GIVEN, ALL = "given", "all"
#: by what COCO tells small from large: the area of a true object's outline, or of its box where that is not known
OUTLINES, BOXES = "outlines", "boxes"
#: what ranks answered boxes: who proposed them, nothing, or the model (for each index a number)
PROPOSAL, CONSTANT, CONFIDENCE = "proposal", "constant", "confidence"


@dataclass(frozen=True)
class ImageAnswer:
    """A question about the objects of a picture, with its answer.

    Attributes:
        image: names the picture; questions of one picture are drawn together by every interval.
        truth: the picture's true boxes.
        shown: the boxes that the answer's indices name.
        parsed: the answer, read with as many boxes as were shown.
        asked: what the question asks for: categories, or the one expression.
        confidence: of the answered indices, any scale, higher is surer; None where the model gives none.
    """

    image: str
    truth: Truth
    shown: Objects
    parsed: ParsedAnswer
    asked: tuple[str, ...]
    confidence: Mapping[int, float] | None = None


@dataclass(frozen=True)
class ClassBoxes:
    """One class in all answers, in the answers' order, boxes of an answer by index.

    Attributes:
        answer_D, box_D: place of the answer that names the box, and the box, float64[D, 4].
        score_D: what ranks them -> float64[D].
        answer_M, box_M, crowd_M, area_M: of the true boxes, where the class was asked for; area in pixels.
    """

    answer_D: IntArray
    box_D: FloatArray
    score_D: Mapping[str, FloatArray]
    answer_M: IntArray
    box_M: FloatArray
    crowd_M: npt.NDArray[np.bool_]
    area_M: FloatArray


@dataclass(frozen=True)
class AnswerSet:
    """Answers in the order of their pictures' names, so that no score depends on the order of a file.

    Attributes:
        answers: of one evaluation.
        place: `place[k]` is where the k-th of `answers` stood before.
        rankings: what the boxes can be ranked by, best first.
        areas: OUTLINES where all true boxes have them, else BOXES.
        names: key of a class -> how it is written.
        classes: key of a class -> its boxes; a class is one that was asked for anywhere.
    """

    answers: tuple[ImageAnswer, ...]
    place: tuple[int, ...]
    rankings: tuple[str, ...]
    areas: str
    names: Mapping[str, str]
    classes: Mapping[str, ClassBoxes]


def answer_set(answers: Sequence[ImageAnswer], categories: str) -> AnswerSet:
    """Sorts answers out by class.

    A class that an answer names without being asked for it in this question is wrong there, whatever the picture shows.

    Args:
        answers: of one evaluation.
        categories: GIVEN or ALL, as the questions were made.

    Raises:
        DpnError: nothing to score, an answer that does not fit its boxes, or questions over all categories that leave
            some out.
    """
    if not answers:
        raise DpnError("no answer that names boxes: nothing to score")
    for answer in answers:
        _check(answer)
    place = sorted(range(len(answers)), key=lambda number: answers[number].image)
    ordered = tuple(answers[number] for number in place)
    names = {category_key(name): name for one in reversed(ordered) for name in reversed(one.asked)}
    if categories == ALL:
        _check_all_are_asked(ordered, names)
    rankings, areas = _rankings(ordered), _areas(ordered)
    classes = _classes(ordered, sorted(names), rankings, areas)
    return AnswerSet(ordered, tuple(place), rankings, areas, names, classes)


def categories_of(questions: Iterable[tuple[str, Sequence[str], Truth]]) -> str:
    """Which categories questions name: ALL where every picture is asked for every one, there or not; else GIVEN.

    Args:
        questions: of each, its picture, what it asks for, and what is true.
    """
    asked: dict[str, set[str]] = {}
    there: dict[str, set[str]] = {}
    for image, names, truth in questions:
        asked.setdefault(image, set()).update(map(category_key, names))
        there.setdefault(image, set()).update(map(category_key, truth.categories))
    every = set().union(*asked.values(), *there.values())
    is_all = all(of_image == every for of_image in asked.values())
    return ALL if is_all and any(of_image != every for of_image in there.values()) else GIVEN


def _classes(
    answers: Sequence[ImageAnswer], keys: Iterable[str], rankings: Sequence[str], areas: str
) -> dict[str, ClassBoxes]:
    found: dict[str, list[tuple[int, int]]] = {key: [] for key in keys}
    true: dict[str, list[tuple[int, int]]] = {key: [] for key in found}
    for number, one in enumerate(answers):
        for key, indices in by_category(one.parsed.groups).items():
            if key in found:
                found[key] += [(number, index) for index in indices]
        asked = set(map(category_key, one.asked))
        for row, key in enumerate(map(category_key, one.truth.categories)):
            if key in asked:
                true[key].append((number, row))
    return {key: _class_boxes(answers, found[key], true[key], rankings, areas) for key in found}


def _class_boxes(
    answers: Sequence[ImageAnswer],
    found: Sequence[tuple[int, int]],
    true: Sequence[tuple[int, int]],
    rankings: Sequence[str],
    areas: str,
) -> ClassBoxes:
    return ClassBoxes(
        answer_D=np.array([number for number, _ in found], dtype=np.int64),
        box_D=box_array([answers[number].shown.boxes[index] for number, index in found]),
        score_D={
            ranking: np.array([_score(answers[number], index, ranking) for number, index in found], dtype=np.float64)
            for ranking in rankings
        },
        answer_M=np.array([number for number, _ in true], dtype=np.int64),
        box_M=box_array([answers[number].truth.boxes[row] for number, row in true]),
        crowd_M=np.array([answers[number].truth.crowd[row] for number, row in true], dtype=bool),
        area_M=np.array([_area(answers[number].truth, row, areas) for number, row in true], dtype=np.float64),
    )


def _score(answer: ImageAnswer, index: int, ranking: str) -> float:
    if ranking == CONFIDENCE and answer.confidence is not None:
        return float(answer.confidence[index])
    if ranking == PROPOSAL and answer.shown.scores is not None:
        return float(answer.shown.scores[index])
    return 1.0


def _area(truth: Truth, row: int, areas: str) -> float:
    if areas == OUTLINES and truth.area is not None:
        return float(truth.area[row])
    left, top, right, bottom = truth.boxes[row].tolist()
    return float((right - left) * (bottom - top))


def _areas(answers: Sequence[ImageAnswer]) -> str:
    """Two kinds of areas in one table would be no table."""
    has_boxes = [one.truth for one in answers if len(one.truth.boxes)]
    return OUTLINES if has_boxes and all(truth.area is not None for truth in has_boxes) else BOXES


def _rankings(answers: Sequence[ImageAnswer]) -> tuple[str, ...]:
    """Those that every answer has what they need for."""
    rankings = []
    if all(one.shown.scores is not None for one in answers):
        rankings.append(PROPOSAL)
    rankings.append(CONSTANT)
    if all(one.confidence is not None for one in answers):
        rankings.append(CONFIDENCE)
    return tuple(rankings)


def _check(answer: ImageAnswer) -> None:
    named, count = answer.parsed.indices, len(answer.shown)
    if count > MAX_OBJECTS:
        raise DpnError(f"{answer.image}: {count} boxes were shown; allowed: at most {MAX_OBJECTS}")
    if named and named[-1] >= count:
        raise DpnError(f"{answer.image}: the answer was read as naming <obj{named[-1]}>, but {count} boxes were shown")
    if not any(category_key(name) for name in answer.asked):
        raise DpnError(f"{answer.image}: the question asks for nothing; wanted categories, or an expression")
    missing = [index for index in named if answer.confidence is not None and index not in answer.confidence]
    if missing:
        raise DpnError(f"{answer.image}: the answer names <obj{missing[0]}> but there is no confidence of it")


def _check_all_are_asked(answers: Sequence[ImageAnswer], names: Mapping[str, str]) -> None:
    asked: dict[str, set[str]] = {}
    for one in answers:
        asked.setdefault(one.image, set()).update(map(category_key, one.asked))
    true = {category_key(name): name for one in answers for name in one.truth.categories}
    wanted = {**true, **names}
    for image, of_image in asked.items():
        left_out = [wanted[key] for key in wanted if key not in of_image]
        if left_out:
            raise DpnError(
                f"{image}: {len(of_image)} of {len(wanted)} categories were asked for, {left_out[0]!r} was not; an AP "
                f"over {ALL} categories needs every one asked for on every picture (else it is one of {GIVEN} ones)"
            )
