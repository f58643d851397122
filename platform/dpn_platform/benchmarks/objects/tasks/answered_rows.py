"""Rows of a data set with boxes, and answers to them: what was shown, what was named, and how sure the model was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpn_model.objects.answers import ParsedAnswer, parse_answer
from dpn_model.objects.record import ObjectRecord, Objects, Truth
from dpn_platform.benchmarks.contract import REFERENCE, Benchmark, Inputs, Prompt, Row
from dpn_platform.benchmarks.files.alignment import pair_known
from dpn_platform.benchmarks.files.answers import Answer, read_answers
from dpn_platform.benchmarks.files.parquet_rows import PlacedRow
from dpn_platform.benchmarks.files.published import (
    IMAGE_TAG,
    boxes_digest,
    first_turn,
    picture_digests,
    published_rows,
    shown_boxes,
    shown_objects,
)
from dpn_platform.benchmarks.objects.image_answers import ImageAnswer
from dpn_platform.benchmarks.objects.tasks.families import SPLIT
from dpn_platform.config.errors import DpnError

GIVEN_BOXES = "given-boxes"
VARIANTS = {
    REFERENCE: "a detector's 100 best boxes are shown, where the record has them; else its own",
    GIVEN_BOXES: "the record's own boxes are shown: what is named, without a detector's errors",
}


@dataclass(frozen=True)
class AnsweredRow:
    """One row and its answer.

    Attributes:
        id: of the record.
        question, gold: of its first turn.
        record: its boxes and what is true.
        shown: the boxes that the answer's numbers name.
        image: tells the picture.
        text: the answer as it was given; `parsed` as it was read.
        confidence: see `ImageAnswer`.
    """

    id: str
    question: str
    gold: str
    record: ObjectRecord
    shown: Objects
    image: str
    text: str
    parsed: ParsedAnswer
    confidence: Mapping[int, float] | None

    def against(self, truth: Truth, asked: tuple[str, ...]) -> ImageAnswer:
        """As reports take it."""
        return ImageAnswer(self.image, truth, self.shown, self.parsed, asked, self.confidence)


def prompt(record: Row, variant: str, limit: int) -> Prompt:
    """The question as it stands, with the boxes that the variant shows."""
    return Prompt(first_turn(record)[0], limit, boxes=shown_boxes(record, given=variant == GIVEN_BOXES))


def stored_prompt(asked: Prompt) -> str:
    """The question without its image tag."""
    return asked.text.replace(IMAGE_TAG, "").strip()


def read_answered(benchmark: Benchmark, inputs: Inputs) -> list[AnsweredRow]:
    """The answered rows of a data set, in its order; a part of them may be answered.

    Args:
        benchmark: whose rows are asked.
        inputs: `annotations` is the data set.

    Raises:
        DpnError: the files do not fit each other, none of the rows is asked, or an answer is about other boxes.
    """
    (layout,) = benchmark.layouts
    split = inputs.split or SPLIT
    is_asked = layout.is_asked
    rows = [placed for placed in published_rows(inputs.annotations, split) if is_asked is None or is_asked(placed.row)]
    if not rows:
        raise DpnError(f"{inputs.annotations}: the split '{split}' has no question of {benchmark.name}")
    answers = read_answers(inputs.predictions)
    title = f"{benchmark.name} on '{split}'"
    pairs = pair_known(answers, lambda answer: answer.key, rows, lambda placed: str(placed.row["id"]), inputs, title)
    answered = [(answer, placed) for answer, placed in pairs if answer is not None]
    images = _images(answered)
    return [
        _answered_row(answer, placed.row, image, inputs)
        for (answer, placed), image in zip(answered, images, strict=True)
    ]


def _answered_row(answer: Answer, row: Row, image: str, inputs: Inputs) -> AnsweredRow:
    question, gold = first_turn(row)
    shown = shown_objects(row, given=inputs.variant == GIVEN_BOXES)
    assert shown is not None  # else the row is not asked
    told = _metadata(answer)
    about = told.get("boxes")
    if about is not None and about != boxes_digest(shown.boxes.tolist()):
        raise DpnError(
            f"{inputs.predictions}: the answer to '{row['id']}' names boxes by number, and was given others than "
            f"{inputs.annotations} shows as variant {inputs.variant}; score it with the data set and variant it is of"
        )
    parsed = parse_answer(answer.text, len(shown))
    confidence = _confidence(told.get("object_probabilities"), parsed)
    record = ObjectRecord.of_json(row["objects"])
    return AnsweredRow(str(row["id"]), question, gold, record, shown, image, answer.text, parsed, confidence)


def _images(answered: list[tuple[Answer, PlacedRow]]) -> list[str]:
    """From what `dpn evaluate` noted; pictures of other answers are read."""
    noted = [_metadata(answer).get("image_sha") for answer, _ in answered]
    if all(isinstance(image, str) for image in noted):
        return [str(image) for image in noted]
    return picture_digests([placed for _, placed in answered])


def _metadata(answer: Answer) -> Mapping[str, Any]:
    found = answer.record.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _confidence(told: Any, parsed: ParsedAnswer) -> dict[int, float] | None:
    """The highest probability that a box's number had; 0 for one that was written in other tokens."""
    if not isinstance(told, list):
        return None
    found = dict.fromkeys(parsed.indices, 0.0)
    for index, probability in told:
        if index in found:
            found[index] = max(found[index], float(probability))
    return found
