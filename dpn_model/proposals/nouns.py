"""What a question is about, as Grounding DINO is asked for it: "red circle. dog."."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

#: what questions about places name, by their canonical forms (spec chatrex 3.2)
_FORMS = (
    re.compile(r"\bdetect\s+(?P<named>.+?)\s+in\s+(?:this|the)\s+image\b", re.IGNORECASE | re.DOTALL),
    re.compile(r"\bhow\s+many\s+(?P<named>.+?)\s+are\s+there\b", re.IGNORECASE | re.DOTALL),
)
_TAG = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"\w", re.UNICODE)


def nouns_of(question: str) -> list[str]:
    """What a question asks for, each once, in its order.

    These are the categories of "detect A; B in this image" and the thing of "how many A are there"; any other question
    is asked as it stands, without its tags: Grounding DINO then looks for what its words name.
    """
    text = _TAG.sub(" ", question)
    named = [match["named"] for form in _FORMS for match in form.finditer(text)]
    phrases = [phrase for one in named for phrase in one.split(";")] or [text]
    # A full stop ends a phrase in a prompt, so there is none inside one.
    plain = (" ".join(phrase.replace(".", " ").lower().split()) for phrase in phrases)
    return list(dict.fromkeys(phrase for phrase in plain if _WORD.search(phrase)))


def prompts_of(nouns: Sequence[str], count_tokens: Callable[[str], int], limit: int) -> list[str]:
    """The nouns as prompts "a. b.", as few as have at most `limit` tokens each.

    A single noun that has more is a prompt of its own: whoever reads it cuts it.
    """
    prompts: list[str] = []
    for noun in nouns:
        longer = f"{prompts[-1]} {noun}." if prompts else ""
        if prompts and count_tokens(longer) <= limit:
            prompts[-1] = longer
        else:
            prompts.append(f"{noun}.")
    return prompts
