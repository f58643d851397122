"""Records of a picture of whose boxes something is said: where is what is meant, and what is this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.data.convert.options import Ask, is_training
from dpn_platform.data.convert.questions import Asked, conversation, description, detection


@dataclass(frozen=True)
class Expression:
    """A text about boxes of a picture.

    Attributes:
        id: unique in the data set.
        text: as it stands in questions and answers.
        indices: places, in the record's boxes, of those that it means; none where it means nothing in the picture.
    """

    id: str
    text: str
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Wording:
    """How a data set's texts are asked for.

    Attributes:
        asks: which questions.
        description: the question for which a text is the answer (of `questions`).
        turns: questions that one training record holds; in other splits every question is a record.
    """

    asks: Sequence[Ask]
    description: str
    turns: int


def referring_records(
    split: str, name: str, seen: dict[str, Any], expressions: Sequence[Expression], wording: Wording
) -> Iterator[dict[str, Any]]:
    """The records of a picture in a split.

    Args:
        split: its name.
        name: of the picture, for the ids of training records.
        seen: `image` and `boxes` of the records.
        expressions: what is said.
        wording: how it is asked.
    """
    per_record = wording.turns if is_training(split) else 1
    for ask in wording.asks:
        chosen = [one for one in expressions if ask == "detect" or len(one.indices) == 1]
        for start in range(0, len(chosen), per_record):
            part = chosen[start : start + per_record]
            yield {
                "id": f"{name}-{ask}-{start // per_record}" if is_training(split) else f"{part[0].id}-{ask}",
                **seen,
                "family": "referring" if ask == "detect" else "description",
                **(_truth(seen["boxes"], part) if ask == "detect" else {}),
                "conversations": conversation([_asked(ask, one, wording) for one in part]),
            }


def _asked(ask: Ask, expression: Expression, wording: Wording) -> Asked:
    if ask == "detect":
        return detection({expression.text: expression.indices})
    return description(wording.description, expression.indices[0], expression.text)


def _truth(boxes: Sequence[Sequence[float]], expressions: Sequence[Expression]) -> dict[str, Any]:
    """What a detector's boxes are compared with where the true ones are not shown."""
    meant = [(boxes[index], one.text) for one in expressions for index in one.indices]
    return {"truth": {"boxes": [box for box, _ in meant], "categories": [text for _, text in meant]}}
