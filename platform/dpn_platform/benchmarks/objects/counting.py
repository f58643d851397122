"""Counting: the number an answer says against the true one, and against the boxes it names.

Source of the answers' form: spec chatrex 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_model.objects.answers import category_key, plain_text
from dpn_model.objects.record import Truth
from dpn_platform.benchmarks.objects.estimates import Estimate, mean_by_picture
from dpn_platform.config.errors import DpnError

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORDS = [*_SMALL, *(f"{ten}-{one}" if one else ten for ten in _TENS for one in ("", *_SMALL[1:10]))]
_NUMBERS = {word: number for number, word in enumerate(_WORDS)}
_NONE = {"no", "none", "nothing"}
#: "1,200" is one number, "3.5" is none that counts things
_TOKEN = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])|(?<![\w.,])\d+(?![\w]|[.,]\d)|[a-z]+(?:-[a-z]+)*")


@dataclass(frozen=True)
class CountAnswer:
    """What was said of a number of things, and the number.

    Attributes:
        image: names the picture; its questions are drawn together by every interval.
        text: the answer as it was given.
        named: boxes that its groups name.
        true: the number.
    """

    image: str
    text: str
    named: int
    true: int


@dataclass(frozen=True)
class CountingReport:
    """What answers to "how many" are worth.

    Attributes:
        accuracy: share whose number is the true one; an answer without a number is wrong.
        error: mean distance of the number from the true one, in things, of answers that say one.
        listed: share that names as many boxes as there are true ones.
        agreement: share that says as many as it names boxes.
        unsaid: answers without a number.
        said: of each answer, in their order.
    """

    accuracy: Estimate
    error: Estimate
    listed: Estimate
    agreement: Estimate
    unsaid: int
    said: tuple[int | None, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the single answers, in percent; the error in things."""
        estimates = {"accuracy": self.accuracy, "listed": self.listed, "agreement": self.agreement}
        found = {name: one.to_json() for name, one in estimates.items()}
        return {"estimates": found, "error": self.error.to_json(scale=1.0), "unsaid": self.unsaid}


def counting_report(answers: Sequence[CountAnswer], seed: int = 0) -> CountingReport:
    """Scores answers to "how many X are there".

    Args:
        answers: one per question.
        seed: of the draws of pictures.

    Raises:
        DpnError: nothing to score.
    """
    if not answers:
        raise DpnError("no answered count: nothing to score")
    said = tuple(said_number(one.text) for one in answers)
    named, true = [one.named for one in answers], [one.true for one in answers]
    images = [one.image for one in answers]
    numbers = [
        (abs(number - count), image)
        for number, count, image in zip(said, true, images, strict=True)
        if number is not None
    ]
    return CountingReport(
        accuracy=mean_by_picture(_equal(said, true), images, seed),
        error=mean_by_picture([distance for distance, _ in numbers], [image for _, image in numbers], seed),
        listed=mean_by_picture(_equal(named, true), images, seed),
        agreement=mean_by_picture(_equal(said, named), images, seed),
        unsaid=said.count(None),
        said=said,
    )


def said_number(text: str) -> int | None:
    """The first number of an answer, in figures or in words up to ninety-nine; 0 for "no"; None: it says none.

    "no" and the like count only where no other number is said.
    """
    tokens = _TOKEN.findall(plain_text(text).casefold())
    for token in tokens:
        if token[0].isdigit():
            return int(token.replace(",", ""))
        if token in _NUMBERS:
            return _NUMBERS[token]
    return 0 if any(token in _NONE for token in tokens) else None


def true_number(truth: Truth, asked: Iterable[str]) -> int:
    """True boxes of what is asked for; crowds, which are no single things, are not counted."""
    keys = set(map(category_key, asked))
    pairs = zip(truth.categories, truth.crowd, strict=True)
    return sum(category_key(category) in keys and not crowd for category, crowd in pairs)


def _equal(first: Sequence[int | None], second: Sequence[int | None]) -> list[float]:
    return [float(one == other) for one, other in zip(first, second, strict=True)]
