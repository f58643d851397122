"""What a question about objects asks for, told by its words and those of its gold answer (spec chatrex 3.2).

"Please detect dog; cat in this image. Answer the question with object indexes." and "detect dog ; cat" ask for two
categories. Where the words are others, the gold answer says it: it has a group for whatever was asked, there or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dpn_model.objects.answers import category_key, object_indices, parse_answer
from dpn_model.special_texts import MAX_OBJECTS
from dpn_platform.benchmarks.files.published import IMAGE_TAG
from dpn_platform.benchmarks.objects.counting import said_number
from dpn_platform.benchmarks.objects.regions import said_of

#: between the categories of a question
_SEPARATOR = ";"
# The last "in this image" ends what is asked: an expression may speak of the image itself.
_ASKED = (
    re.compile(r"\bdetect\s+(.+)\s+in this image\b", re.IGNORECASE | re.DOTALL),
    re.compile(r"\bdetect\s+(.+)$", re.IGNORECASE | re.DOTALL),
)


def asked_categories(question: str, gold: str) -> tuple[str, ...]:
    """The categories that a detection question names, each once; none where neither text names one.

    The gold answer's, where it has one that the question does not list: then the question was not understood.
    """
    listed = _distinct((_asked_text(question) or "").split(_SEPARATOR))
    named = _distinct(parse_answer(gold, MAX_OBJECTS).groups)
    is_understood = set(map(category_key, named)) <= set(map(category_key, listed))
    return listed if is_understood else named


def asked_expression(question: str, gold: str) -> str:
    """What a referring question means: its words, else the gold answer's, else the whole question."""
    named = _distinct(parse_answer(gold, MAX_OBJECTS).groups)
    return _asked_text(question) or "; ".join(named) or " ".join(question.replace(IMAGE_TAG, " ").split())


def region_names(question: str, gold: str) -> dict[int, str]:
    """Box -> what it is called, of the boxes that a question names and its gold answer says something of."""
    names = {index: said_of(gold, index, MAX_OBJECTS) for index in object_indices(question) if index < MAX_OBJECTS}
    return {index: name for index, name in names.items() if name}


def told_number(question: str, gold: str) -> str:
    """The number of things in a gold answer, in figures: the one it says, else that of the boxes it names.

    Empty where it does neither.
    """
    said, parsed = said_number(gold), parse_answer(gold, MAX_OBJECTS)
    if said is not None:
        return str(said)
    return str(len(parsed.indices)) if parsed.groups else ""


def _asked_text(question: str) -> str:
    found = next((match for form in _ASKED if (match := form.search(question))), None)
    return "" if found is None else " ".join(found[1].split())


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(category_key(name), name.strip())
    return tuple(name for key, name in found.items() if key)
