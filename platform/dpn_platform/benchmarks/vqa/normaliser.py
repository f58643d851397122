"""The answer normaliser of the VQA metric: punctuation, then digits and articles; and what TextVQA does before it.

The steps and their oddities are those of the official programs, because scores depend on them. Source: spec
benchmarks 2.2 and 2.3.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dpn_platform.benchmarks.vqa.contractions import CONTRACTIONS

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
# The official call passes a flag where the count belongs: the 33rd such period stays.
_MAX_PERIODS = 32
_NUMBER_WORDS = {"none": "0", "zero": "0"} | {
    word: str(value) for value, word in enumerate("one two three four five six seven eight nine ten".split(), start=1)
}
_ARTICLES = frozenset(("a", "an", "the"))
# Human answers repeat: ten of them per question, most among a few thousand words.
_CACHED = 1 << 16


def strip_punctuation(text: str) -> str:
    """Deletes marks that touch a blank (or all of them, beside a number like 1,000); others become blanks.

    Every mark is tested on the text as it came, not on what the marks before it left.
    """
    delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    cleaned = text
    for mark in _MARKS:
        touches_blank = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if touches_blank or delete_all else " ")
    return _PERIOD.sub("", cleaned, count=_MAX_PERIODS)


def digits_and_articles(text: str) -> str:
    """Lower case, number words as digits, no articles, contractions with their apostrophes, single blanks."""
    words = [_NUMBER_WORDS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def one_line(text: str) -> str:
    """Newlines and tabs as blanks, none at the ends: what the official VQA program does first."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=_CACHED)
def normalise_vqa(text: str) -> str:
    """Normaliser P+D of one answer that `one_line` has been over."""
    return digits_and_articles(strip_punctuation(text))


@lru_cache(maxsize=_CACHED)
def normalise_textvqa(text: str) -> str:
    """Normaliser B: TextVQA's own first step, then P+D. Also what LLaVA sends to the VQA servers."""
    words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return normalise_vqa(one_line(words))
