"""Which answered boxes are right: COCO's greedy matching, class by class, at all its thresholds at once.

Shape letters: T thresholds, D boxes that answers name, M true boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpn_model.objects.boxes import FloatArray, IntArray, intersections, iou_matrix
from dpn_model.objects.recall import OVERLAPS
from dpn_platform.benchmarks.objects.image_answers import ClassBoxes

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMatches:
    """One class's boxes, best first: what each is at every threshold.

    Attributes:
        answer_D: place of the answer that names it.
        hit_TD: whether it is a true box that no better one had taken.
        ignored_TD: whether it lies in a crowd, and is neither right nor wrong.
        true_answer_M: place of the answer of every true box that is no crowd.
    """

    answer_D: IntArray
    hit_TD: Flags
    ignored_TD: Flags
    true_answer_M: IntArray


def class_matches(boxes: ClassBoxes, ranking: str) -> ClassMatches:
    """Matches within every answer; then all boxes by score, equal ones in the order of answers and indices."""
    score_D = boxes.score_D[ranking]
    # Best first within an answer, answers in their order.
    order_D = np.lexsort((-score_D, boxes.answer_D))
    answer_D = boxes.answer_D[order_D]
    hit_TD = np.zeros((len(OVERLAPS), len(order_D)), dtype=bool)
    ignored_TD = np.zeros_like(hit_TD)
    for number in np.intersect1d(answer_D, boxes.answer_M).tolist():
        found = slice(*np.searchsorted(answer_D, [number, number + 1]).tolist())
        true = slice(*np.searchsorted(boxes.answer_M, [number, number + 1]).tolist())
        crowd_M = boxes.crowd_M[true]
        overlap_DM = overlaps(boxes.box_D[order_D[found]], boxes.box_M[true], crowd_M)
        hit_TD[:, found], ignored_TD[:, found] = _matched(overlap_DM, crowd_M)
    best_D = np.argsort(-score_D[order_D], kind="stable")
    return ClassMatches(
        answer_D[best_D], hit_TD[:, best_D], ignored_TD[:, best_D], boxes.answer_M[np.flatnonzero(~boxes.crowd_M)]
    )


def overlaps(box_D: FloatArray, box_M: FloatArray, crowd_M: Flags) -> FloatArray:
    """float64[D, M]: IoU with a true box; of a crowd, the share of the answered box that lies in it."""
    overlap_DM = iou_matrix(box_D, box_M)
    if crowd_M.any():
        crowds = box_M[crowd_M]
        overlap_DM[:, crowd_M] = intersections(box_D, crowds) / np.prod(box_D[:, 2:] - box_D[:, :2], axis=1)[:, None]
    return overlap_DM


def _matched(overlap_DM: FloatArray, crowd_M: Flags) -> tuple[Flags, Flags]:
    """Hits and ignored of one answer, bool[T, D] each; boxes best first.

    Every box takes the free true box that it overlaps most (of equal ones the last, as COCO's program does); only one
    that finds none may lie in a crowd, which is never used up.
    """
    num_found, num_true = overlap_DM.shape
    thresholds = len(OVERLAPS)
    hit_TD, ignored_TD = np.zeros((thresholds, num_found), dtype=bool), np.zeros((thresholds, num_found), dtype=bool)
    free_TM = np.broadcast_to(~crowd_M, (thresholds, num_true)).copy()
    close_TDM = overlap_DM >= OVERLAPS[:, None, None]
    for number in range(num_found):
        open_TM = close_TDM[:, number] & free_TM
        hit_TD[:, number] = open_TM.any(axis=1)
        last_best_T = num_true - 1 - np.where(open_TM, overlap_DM[number], -1.0)[:, ::-1].argmax(axis=1)
        hits = np.flatnonzero(hit_TD[:, number])
        free_TM[hits, last_best_T[hits]] = False
        ignored_TD[:, number] = ~hit_TD[:, number] & (close_TDM[:, number] & crowd_M).any(axis=1)
    return hit_TD, ignored_TD
