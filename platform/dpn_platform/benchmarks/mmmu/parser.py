"""MMMU's parsers: a letter from a free answer, and the candidate answers of an open one. Source: spec benchmarks 3.

The rules and their oddities are the benchmark authors', because scores depend on them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_EDGES = ",.!?;:'"
#: an answer of more words may name an option by its text
_LONG_ANSWER_WORDS = 5
_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_TRIVIAL = frozenset(":,.!?;'")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


_Rule = tuple[list[str], Callable[[str], int]]


class Choice(NamedTuple):
    """A parsed letter; `is_random` where no rule found one and it was drawn."""

    letter: str
    is_random: bool


def parse_choice(text: str, options: Mapping[str, str], question_id: str, *, loose: bool = False) -> Choice:
    """The option an answer means.

    Args:
        text: the answer.
        options: letter -> text.
        question_id: seeds the draw of answers that no rule reads, so that equal answers get equal scores.
        loose: lmms-eval's rule, which also takes `X ` at the end of a word and `X.`.
    """
    for mark in _EDGES:
        text = text.strip(mark)
    text = f" {text} "
    for found, place in _candidates(text, options, loose):
        if found:
            # The option named last; of several that the rule cannot place, the first.
            return Choice(max(found, key=lambda letter: (place(letter), -found.index(letter))), is_random=False)
    return Choice(random_letter(list(options), question_id), is_random=True)


def random_letter(letters: Sequence[str], question_id: str) -> str:
    """A letter drawn by the question's id alone."""
    return random.Random(f"mmmu:{question_id}").choice(list(letters))


def parse_open(text: str) -> list[str | float]:
    """Everything an open answer may be taken to say: key phrases as lower-case texts, and all numbers in them."""
    phrases = _key_phrases(text)
    said = phrases + [number for phrase in phrases for form in _NUMBERS for number in form.findall(phrase)]
    return list(dict.fromkeys(value for item in said for value in normalise_open(item)))


def normalise_open(text: str) -> list[str | float]:
    """A number rounded to two decimals; or the text in lower case, one character with a blank before and after."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_is_correct(parsed: Sequence[str | float], gold: str | Sequence[str]) -> bool:
    """Whether a gold text is contained in a parsed text, or a parsed number equals a gold one."""
    accepted = [value for item in ([gold] if isinstance(gold, str) else gold) for value in normalise_open(str(item))]
    texts = [value for value in accepted if isinstance(value, str)]
    return any(
        any(text in value for text in texts) if isinstance(value, str) else value in accepted for value in parsed
    )


def _candidates(text: str, options: Mapping[str, str], loose: bool) -> list[_Rule]:
    """The rules in their order: the letters each finds, and where in the answer each letter stands last."""
    rules: list[_Rule] = [_rule(text, options, "({})", "({})")]
    rules.append(_rule(text, options, "{} " if loose else " {} ", " {} "))
    if loose:
        # lmms-eval looks for the place between blanks even here.
        rules.append(_rule(text, options, "{}.", " {} "))
    if len(text.split()) > _LONG_ANSWER_WORDS:
        lower = text.lower()
        named = [letter for letter, option in options.items() if option.lower() in lower]
        rules.append((named, lambda letter: lower.rfind(options[letter].lower())))
    return rules


def _rule(text: str, options: Mapping[str, str], form: str, place: str) -> _Rule:
    return [letter for letter in options if form.format(letter) in text], lambda letter: text.rfind(
        place.format(letter)
    )


def _key_phrases(text: str) -> list[str]:
    """In each line the shortest tail after an indicator; the whole answer where no line has one."""
    text = text.strip().strip(".").lower()
    lines = text.split("\n")
    phrases = []
    for number, line in enumerate(lines, start=1):
        indicators = (*_INDICATORS, "=") if number == len(lines) else _INDICATORS
        shortest = ""
        for indicator in indicators:
            if indicator in line:
                tail = line.rsplit(indicator, 1)[1].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in _TRIVIAL:
            phrases.append(shortest)
    return phrases or [text]
