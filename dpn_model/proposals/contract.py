"""What every source of proposals gives; what is left of a detector's boxes: threshold, suppression, the best 100."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL.Image import Image

from dpn_model.objects.boxes import FloatArray, suppressed
from dpn_model.special_texts import MAX_OBJECTS


@dataclass(frozen=True)
class Proposed:
    """Boxes that a source offers for one picture.

    Attributes:
        boxes: float64[N, 4], (x1, y1, x2, y2) in pixels of the picture as it was; N is at most 100.
        scores: float64[N], best first.
    """

    boxes: FloatArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Known:
    """What is known of a picture beside its pixels, for sources that go by it.

    Attributes:
        id: of its record.
        image: its path, as records name it; None where that is not known.
        boxes: float64[M, 4], the true ones; None where they are not known.
    """

    id: str
    image: str | None = None
    boxes: FloatArray | None = None


class ProposalSource(Protocol):
    """Gives boxes for pictures. What it gives for one picture does not depend on the others of a call."""

    def propose(
        self,
        images: Sequence[Image],
        questions: Sequence[str] | None = None,
        known: Sequence[Known] | None = None,
    ) -> list[Proposed]:
        """One `Proposed` for every picture.

        Args:
            images: as they were, of any size and mode; sources that look at no pixels need not have them decoded.
            questions: what is asked about each; only a source that reads them needs them.
            known: of each; only a source that goes by it needs it.

        Raises:
            ValueError: in one line, what is missing or cannot be used.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """Which of a detector's boxes are proposals.

    Attributes:
        threshold: least score.
        nms: of two boxes that overlap by more (intersection over union), the better one stays; 1 keeps both.
    """

    threshold: float = 0.3
    nms: float = 0.8

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold:g}; allowed: 0 to 1")
        if not 0 < self.nms <= 1:
            raise ValueError(f"nms is {self.nms:g}; allowed: above 0, up to 1 (1 suppresses nothing)")


def best(boxes: FloatArray, scores: FloatArray, size: tuple[int, int], limits: Limits) -> Proposed:
    """What is left of a detector's boxes: those above the threshold, without repeats, cut at the picture's edges.

    Args:
        boxes: float64[N, 4] in pixels of the picture, in any order; they may reach beyond it.
        scores: float64[N].
        size: (width, height) of the picture.
        limits: threshold and suppression.

    Raises:
        ValueError: numbers that are not finite, as weights that do not fit the arithmetic give them.
    """
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError("the detector's boxes or scores are not all finite")
    places = np.flatnonzero(scores >= limits.threshold)
    places = places[suppressed(boxes[places], scores[places], limits.nms)]
    inside = np.clip(boxes[places], 0, [*size, *size])
    has_area = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    return Proposed(inside[has_area][:MAX_OBJECTS], scores[places][has_area][:MAX_OBJECTS])
