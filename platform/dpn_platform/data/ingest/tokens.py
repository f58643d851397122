"""How many tokens a conversation is: by a tokenizer, or by a stated estimate; and what a dense decoder would see."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.object_fields import TAG
from dpn_platform.data.ingest.record_forms import IMAGE_TEXT
from dpn_platform.data.ingest.validation import Turn
from dpn_platform.storage import read_bytes

#: visual tokens of one image in LLaVA-1.5: 24 x 24 patches (spec base-models B.1)
VISUAL_TOKENS = 576
TEMPLATE = "vicuna_v1"
CHARACTERS_PER_TOKEN = 4.0
#: tokens of the template beside question and answer: the first turn brings the system text (spec base-models B.3)
FIRST_TURN_TOKENS = 42
LATER_TURN_TOKENS = 8
ESTIMATE = (
    f"estimate: ceil(characters / {CHARACTERS_PER_TOKEN:g}) of each turn, and of template {TEMPLATE} "
    f"{FIRST_TURN_TOKENS} for the first question, {LATER_TURN_TOKENS} for each later one, 1 for each answer's end, "
    "1 for each tag of boxes"
)
_SPECIAL_LENGTHS = {IMAGE_TEXT: 0, "</s>": 1, "": 0}
_SPECIAL = re.compile(f"({re.escape(IMAGE_TEXT)}|</s>)")


class TokenCounter(Protocol):
    """(prompt tokens, answer tokens) of a conversation; images are not counted."""

    def __call__(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """Counts the turns' tokens: those that are not supervised, and those that are."""
        ...


def estimated_tokens(turns: Sequence[Turn]) -> tuple[int, int]:
    """By the length of the text; see `ESTIMATE`."""
    questions, answers = turns[::2], turns[1::2]
    prompt = sum(_estimate(turn["value"].replace(IMAGE_TEXT, "").strip()) for turn in questions)
    prompt += FIRST_TURN_TOKENS + LATER_TURN_TOKENS * (len(questions) - 1)
    return prompt, sum(_estimate(turn["value"]) + 1 for turn in answers)


def _estimate(text: str) -> int:
    words, tags = TAG.subn("", text)
    return math.ceil(len(words) / CHARACTERS_PER_TOKEN) + tags


class TokenizedCounter:
    """Counts as training encodes: template `vicuna_v1`, each segment tokenised by itself, one BOS, one end per answer.

    Args:
        tokenizer: of the `tokenizers` library.
    """

    def __init__(self, tokenizer: Any) -> None:
        # Loads torch, which workers that only estimate do not need.
        from dpn_model.processing.conversation import conversation_segments

        self._tokenizer = tokenizer
        self._segments = conversation_segments

    def __call__(self, turns: Sequence[Turn]) -> tuple[int, int]:
        """See `TokenCounter`."""
        pairs = [(ask["value"], reply["value"]) for ask, reply in zip(turns[::2], turns[1::2], strict=True)]
        counts = {False: 1, True: 0}  # the prompt begins with BOS
        for segment in self._segments(pairs, template=TEMPLATE):
            counts[segment.is_supervised] += sum(map(self._length, _SPECIAL.split(segment.text)))
        return counts[False], counts[True]

    def _length(self, piece: str) -> int:
        if piece in _SPECIAL_LENGTHS:
            return _SPECIAL_LENGTHS[piece]
        # Tags of boxes are single tokens of the model that is shown them, whether or not this tokenizer has them.
        words = TAG.split(piece)
        encoded = [self._tokenizer.encode(word, add_special_tokens=False).ids for word in words if word]
        return sum(map(len, encoded)) + len(words) - 1


@lru_cache(maxsize=2)
def token_counter(uri: str | None) -> TokenCounter:
    """The counter of a `tokenizer.json`, kept for the next slice; None gives the estimate.

    Raises:
        DpnError: the file is missing or is no tokenizer.
    """
    return estimated_tokens if uri is None else TokenizedCounter(parse_tokenizer(read_bytes(uri), uri))


def parse_tokenizer(data: bytes, where: str) -> Any:
    """A `tokenizer.json` as the `tokenizers` library's object.

    Raises:
        DpnError: it is no tokenizer; the message names `where` it is from.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises plain Exceptions for whatever it cannot read
        raise DpnError(f"{where}: not a tokenizer.json ({' '.join(str(error).split())[:200]})") from error
