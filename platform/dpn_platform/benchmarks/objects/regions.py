"""What a region is called: words that answer and truth share, and how near a sentence model finds them.

Source: spec chatrex 5; S-IoU and SS are those of Osprey's evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpn_model.objects.answers import parse_answer, plain_text
from dpn_platform.benchmarks.objects.estimates import Estimate, mean_by_picture
from dpn_platform.benchmarks.objects.sentence_model import SentenceModel
from dpn_platform.config.errors import DpnError

#: marks that Osprey's program makes blanks of, in answers alone
_BLANKS = str.maketrans(".:,", "   ")


@dataclass(frozen=True)
class RegionAnswer:
    """What was said of a region, and what it is.

    Attributes:
        image: names the picture; its regions are drawn together by every interval.
        said: the region's words, without tags: see `said_of`.
        true: its category or caption.
    """

    image: str
    said: str
    true: str


@dataclass(frozen=True)
class RegionReport:
    """What names of regions are worth.

    Attributes:
        s_iou: mean share of words that both have.
        ss: mean cosine of the sentences, -1 to 1; None without a sentence model.
        exact: share of names that are the true one, but for case and the marks above.
        each: S-IoU of each region, in their order.
    """

    s_iou: Estimate
    ss: Estimate | None
    exact: Estimate
    each: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the single regions, in percent; without a sentence model no `ss`."""
        estimates = {"s_iou": self.s_iou, "exact": self.exact} | ({} if self.ss is None else {"ss": self.ss})
        return {"estimates": {name: one.to_json() for name, one in estimates.items()}}


def region_report(answers: Sequence[RegionAnswer], model: SentenceModel | None = None, seed: int = 0) -> RegionReport:
    """Scores names of regions.

    Args:
        answers: one per region.
        model: of sentences; None leaves SS out.
        seed: of the draws of pictures.

    Raises:
        DpnError: nothing to score, or a region whose true name is empty.
    """
    if not answers:
        raise DpnError("no named region: nothing to score")
    for answer in answers:
        if not answer.true.strip():
            raise DpnError(f"{answer.image}: a region's true name is empty; wanted a category or a caption")
    images = [one.image for one in answers]
    said, true = [_without_marks(one.said) for one in answers], [one.true for one in answers]
    each = tuple(s_iou(one, other) for one, other in zip(said, true, strict=True))
    exact = [float(one.lower() == _without_marks(other).lower()) for one, other in zip(said, true, strict=True)]
    ss = None if model is None else mean_by_picture(model.similarities(said, true), images, seed)
    return RegionReport(mean_by_picture(each, images, seed), ss, mean_by_picture(exact, images, seed), each)


def s_iou(said: str, true: str) -> float:
    """Shared words over all words of two texts, in lower case, each word once."""
    first, second = set(said.lower().split()), set(true.lower().split())
    return len(first & second) / max(len(first | second), 1)


def said_of(text: str, index: int, num_boxes: int) -> str:
    """What an answer says of one of the boxes that it was asked about.

    Args:
        text: the whole answer, as groups or as plain text.
        index: of the box.
        num_boxes: boxes that were shown.

    Returns:
        The phrases that name the box; without any, all words of an answer that groups nothing, else nothing.
    """
    groups = parse_answer(text, num_boxes).groups
    phrases = [plain_text(phrase) for phrase, indices in groups.items() if index in indices]
    if phrases or groups:
        return " ".join(phrases)
    return plain_text(text)


def _without_marks(text: str) -> str:
    return " ".join(text.translate(_BLANKS).split())
