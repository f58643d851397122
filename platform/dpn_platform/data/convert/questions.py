"""Questions about boxes and their answers, in the words that released weights know (spec chatrex 3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dpn_model.objects.answers import write_group
from dpn_platform.data.ingest.object_fields import TAG
from dpn_platform.data.ingest.record_forms import IMAGE_TEXT, ROLES

DETECT = "Please detect {} in this image. Answer the question with object indexes."
CATEGORY_NAME = "What is the category name of {}? Answer the question with its category name in free format."
BRIEFLY = "Can you provide me with a brief description of {}? Answer the question with brief description."
ONE_SENTENCE = (
    "Can you provide a one sentence description of {} in the image? "
    "Answer the question with a one sentence description."
)
#: between the categories of a question
SEPARATOR = "; "
_BLANKS = re.compile(r"\s+")

#: (question, answer)
Asked = tuple[str, str]


def tidy(text: str) -> str:
    """The text on one line, with single blanks."""
    return _BLANKS.sub(" ", text).strip()


def is_group_text(text: str) -> bool:
    """Whether a text can stand in a group: it says something, and holds no tag."""
    return bool(text.strip()) and TAG.search(text) is None and IMAGE_TEXT not in text


def is_askable(phrase: str) -> bool:
    """Whether a phrase can be one of several in a question, and stand in a group."""
    return is_group_text(phrase) and SEPARATOR.strip() not in phrase


def detection(indices: Mapping[str, Sequence[int]]) -> Asked:
    """Asks for categories or expressions, and answers with one group of boxes each; an absent one has an empty group.

    Args:
        indices: phrase -> places of its boxes, in the order of the question.
    """
    groups = [write_group(phrase, places) for phrase, places in indices.items()]
    return DETECT.format(SEPARATOR.join(indices)), "\n".join(groups)


def description(question: str, index: int, text: str) -> Asked:
    """Asks what one box is (`CATEGORY_NAME`, `BRIEFLY`, `ONE_SENTENCE`), and answers with a group."""
    return question.format(f"<obj{index}>"), write_group(text, [index])


def conversation(asked: Sequence[Asked]) -> list[dict[str, str]]:
    """LLaVA's turns about one picture, which stands before the first question."""
    values = [value for pair in asked for value in pair]
    values[0] = f"{IMAGE_TEXT}\n{values[0]}"
    return [{"from": ROLES[number % 2], "value": value} for number, value in enumerate(values)]
