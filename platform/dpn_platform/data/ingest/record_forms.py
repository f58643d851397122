"""The forms of records: LLaVA's conversations, plain questions with answers, and what a refusal says of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpn_platform.data.ingest.object_fields import FIELDS

IMAGE_TEXT = "<image>"
ROLES = ("human", "gpt")
#: what a plain record must have; `image` may be missing or empty in a question about no picture
QUESTION, ANSWER = "question", "answer"
WANTED = (
    "id, image and conversations: [{from: human, value: text}, {from: gpt, value: text}, ...], "
    "or image, question and answer"
)
_SHOWN_KEYS = 8
_SHOWN_CHARACTERS = 80


def is_plain(record: Any) -> bool:
    """Whether it is an object of a question and an answer, without LLaVA's `conversations`."""
    return isinstance(record, Mapping) and "conversations" not in record and {QUESTION, ANSWER} <= record.keys()


def as_conversation(record: Any, position: int) -> Any:
    """A plain record in LLaVA's form; any other is returned as it is, for `validation` to judge.

    Args:
        record: with `question`, `answer`, and optionally `image` (a path, or a list of them), `id`, `family` or `type`,
            `difficulty`, and the fields of boxes.
        position: in the split's list; the id of a record that has none.
    """
    if not is_plain(record):
        return record
    image, question = record.get("image") or None, _as_text(record[QUESTION])
    if image is not None and isinstance(question, str) and IMAGE_TEXT not in question:
        question = f"{IMAGE_TEXT}\n" * (len(image) if isinstance(image, list) else 1) + question
    values = (question, _as_text(record[ANSWER]))
    has_id = record.get("id") not in (None, "")
    return {
        "id": record["id"] if has_id else position,
        "image": image,
        "conversations": [{"from": role, "value": value} for role, value in zip(ROLES, values, strict=True)],
        "family": record.get("family") or record.get("type"),
        "difficulty": record.get("difficulty") or None,
        **{name: record[name] for name in FIELDS if record.get(name) not in (None, "")},
    }


def _as_text(value: Any) -> Any:
    """Numbers as they are written: an answer of 3 is "3"."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def keys_of(record: Mapping[str, Any]) -> str:
    """The keys of an object, for a refusal."""
    names = list(map(str, record))
    return ", ".join(names[:_SHOWN_KEYS]) + (", ..." if len(names) > _SHOWN_KEYS else "") or "none"


def what_is(value: Any) -> str:
    """A value and its kind, for a refusal: `the number 3`, `an empty list`."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {value[:_SHOWN_CHARACTERS]!r}" if value else "an empty text"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value!r}"[:_SHOWN_CHARACTERS]
    if isinstance(value, Mapping):
        return f"an object with the keys {keys_of(value)}"
    if isinstance(value, Sequence):
        return f"a list of {len(value)}" if value else "an empty list"
    return type(value).__name__


def turns_problem(record: Mapping[str, Any]) -> str:
    """Why a record's `conversations` is no list of turns."""
    if "conversations" not in record:
        return f"no 'conversations'; the keys are {keys_of(record)}; wanted {WANTED}"
    return f"'conversations' is {what_is(record['conversations'])}; wanted {WANTED}"


def turn_problem(number: int, turn: Any) -> str | None:
    """Why the turn at this place (from 0) is not from its speaker, with a text; None when it is."""
    wanted = f"wanted {{from: {ROLES[number % 2]}, value: text}}"
    if not isinstance(turn, Mapping):
        return f"turn {number + 1} is {what_is(turn)}; {wanted}"
    if "from" not in turn or "value" not in turn:
        return f"turn {number + 1} has the keys {keys_of(turn)}; {wanted}"
    if turn["from"] != ROLES[number % 2]:
        return f"turn {number + 1} is from {what_is(turn['from'])}; {wanted}, human and gpt by turns"
    if not isinstance(turn["value"], str):
        return f"the value of turn {number + 1} is {what_is(turn['value'])}; {wanted}"
    return None
