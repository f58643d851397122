"""Referring expressions: the one box of RefCOCO, the many or none of HumanRef. Source: spec chatrex 5.

An answer's phrase is not compared with the expression: every group of an answer is about the one thing asked for.

Shape letters: T thresholds, D boxes that the answer names, M true boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpn_model.objects.boxes import FloatArray, iou_matrix
from dpn_model.objects.recall import OVERLAPS
from dpn_platform.benchmarks.objects.estimates import Estimate, mean_by_picture
from dpn_platform.benchmarks.objects.image_answers import ImageAnswer
from dpn_platform.config.errors import DpnError

#: RefCOCO's: a box is right when it overlaps by more
_RIGHT_IOU = 0.5


@dataclass(frozen=True)
class ReferringReport:
    """What answers to expressions are worth.

    Attributes:
        accuracy: share of the expressions that mean something whose best answered box overlaps a true one by more than
            one half.
        density_f1: mean over the same of DensityF1, itself a mean over IoU .5:.95.
        rejection: share of the expressions that mean nothing whose answer names no box.
        silence: share of the expressions that mean something whose answer names no box.
        right, f1: of each expression, in their order; of one that means nothing, 1 for no box and 0 else.
    """

    accuracy: Estimate
    density_f1: Estimate
    rejection: Estimate
    silence: Estimate
    right: tuple[float, ...]
    f1: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """All but the single expressions, in percent; `accuracy_present` is of those that mean something."""
        estimates = {"accuracy_present": self.accuracy, "density_f1": self.density_f1}
        estimates |= {"rejection": self.rejection, "silence": self.silence}
        return {"estimates": {name: one.to_json() for name, one in estimates.items()}}


def referring_report(answers: Sequence[ImageAnswer], seed: int = 0) -> ReferringReport:
    """Scores answers to expressions.

    Args:
        answers: `truth` holds the boxes that the expression means, none where it means nothing in the picture; their
            categories and the answer's phrases play no part.
        seed: of the draws of pictures.

    Raises:
        DpnError: nothing to score.
    """
    if not answers:
        raise DpnError("no answered expression: nothing to score")
    right = tuple(_is_right(one) for one in answers)
    f1 = tuple(density_f1(one) for one in answers)
    silent = [float(is_rejected(one)) for one in answers]
    there, absent = ([bool(len(one.truth.boxes)) is wanted for one in answers] for wanted in (True, False))

    def over(values: Sequence[float], chosen: Sequence[bool]) -> Estimate:
        pairs = [(value, one.image) for value, one, is_one in zip(values, answers, chosen, strict=True) if is_one]
        return mean_by_picture([value for value, _ in pairs], [image for _, image in pairs], seed)

    return ReferringReport(over(right, there), over(f1, there), over(silent, absent), over(silent, there), right, f1)


def best_index(answer: ImageAnswer) -> int | None:
    """The answered box of the highest score, of equal ones and without scores the first; None: none is named.

    Scores are the proposals'. The papers leave open what several boxes count; spec chatrex 5 chooses this.
    """
    named = answer.parsed.indices
    if not named or answer.shown.scores is None:
        return named[0] if named else None
    return named[int(answer.shown.scores[list(named)].argmax())]


def density_f1(answer: ImageAnswer) -> float:
    """F1 times min(1, true boxes / answered boxes), mean over IoU .5:.95, as RexSeek has it.

    Naming every box reaches a recall of 1: the factor makes that cost more than F1 alone does. Where nothing is true,
    no box at all is 1.
    """
    true_M, found_D = answer.truth.boxes, answer.shown.boxes[list(answer.parsed.indices)]
    if not len(true_M):
        return float(is_rejected(answer))
    if not len(found_D):
        return 0.0
    hits_T = np.array([_hits(iou_matrix(true_M, found_D), threshold) for threshold in OVERLAPS.tolist()])
    f1_T = 2 * hits_T / (len(true_M) + len(found_D))
    return float(f1_T.mean() * min(1.0, len(true_M) / len(found_D)))


def is_rejected(answer: ImageAnswer) -> bool:
    """Whether an answer names nothing: neither a box that was shown, nor one that was not, nor half a group."""
    return not answer.parsed.indices and not answer.parsed.out_of_range and not answer.parsed.unclosed


def _hits(overlap_MD: FloatArray, threshold: float) -> int:
    """True boxes that find an answered one: each in its turn takes the free one that it overlaps most."""
    free_D = np.ones(overlap_MD.shape[1], dtype=bool)
    for overlap_D in overlap_MD:
        open_D = np.where(free_D & (overlap_D >= threshold), overlap_D, -1.0)
        if open_D.max() >= 0:
            free_D[open_D.argmax()] = False
    return int((~free_D).sum())


def _is_right(answer: ImageAnswer) -> float:
    if not len(answer.truth.boxes):
        return float(is_rejected(answer))
    best = best_index(answer)
    if best is None:
        return 0.0
    return float(iou_matrix(answer.shown.boxes[[best]], answer.truth.boxes).max() > _RIGHT_IOU)
