"""The instructions that close a question, and the ways options are listed under it. Literal strings of the protocol.

Source: spec benchmarks 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

SHORT_SENTENCE = "Answer the question using a single word or phrase."
LETTER_SENTENCE = "Answer with the option's letter from the given choices directly."
SHORT = f"\n{SHORT_SENTENCE}"
LETTER = f"\n{LETTER_SENTENCE}"
UNANSWERABLE = f"\nWhen the provided information is insufficient, respond with 'Unanswerable'.{SHORT}"

#: greedy answers of the reference protocol: one word, or a letter with what a model may add to it
SHORT_LIMIT = 128
LONG_LIMIT = 1024
#: what lmms-eval allows VQAv2, GQA, ScienceQA and MME
HARNESS_SHORT_LIMIT = 16

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# What pandas reads as missing in the benchmarks' TSV files, and the two words LLaVA takes for it in any case.
_MISSING = {"", "#n/a", "n/a", "na", "<na>", "nan", "-nan", "null", "none"}


def lettered(options: Iterable[Any]) -> str:
    """One line `A. option` per option."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, or one of the words that stand for it."""
    if value is None:
        return True
    return value != value if isinstance(value, float) else str(value).strip().lower() in _MISSING


def options_before_gap(values: Sequence[Any]) -> list[str]:
    """The options up to the first missing one."""
    gap = next((place for place, value in enumerate(values) if is_missing(value)), len(values))
    return [str(value) for value in values[:gap]]
