"""MMBench's letter from a free answer, by exact matching alone: VLMEvalKit's rules. Source: spec benchmarks 3."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: always wrong
REFUSED = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_API_FAILURE = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_LAST_WORDS = 4


def infer_letter(text: str, options: Mapping[str, str]) -> str | None:
    """The option an answer means; `Z` for a refusal, None where only a judge could tell.

    Args:
        text: the model's answer.
        options: letter -> text of the options there are.
    """
    if _API_FAILURE not in text:
        letter = _by_letter(text, options)
        if letter is not None:
            return letter
    return _by_text(text, options)


def _by_letter(text: str, options: Mapping[str, str]) -> str | None:
    if any(refusal in text for refusal in _REFUSALS):
        return REFUSED
    words = text.translate(_MARKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST_WORDS:
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    phrase = _ANSWER_IS.search(text)
    return phrase[1].upper() if phrase and phrase[1].upper() in options else None


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    """The single option whose text occurs in the answer, unless the answer is long beside all options together."""
    if len(text.lower()) > 2 * sum(len(option) for option in options.values()):
        return None
    found = [letter for letter, option in options.items() if option.lower() in text.lower()]
    return found[0] if len(found) == 1 else None
