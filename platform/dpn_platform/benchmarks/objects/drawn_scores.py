"""AP, precision and recall in many draws of pictures at once.

Pictures are matched once. A draw only says how often each picture counts, so every answered box enters the running
sums of hits and of boxes with that weight; nothing is matched or sorted again. Only hits can reach a level of recall
or be the highest precision behind one, so all else is dropped once the boxes before each hit are summed up.
A picture that is drawn twice counts twice at once: where boxes of one class on one picture have equal scores, COCO's
program on a set that holds the picture twice would take turns between the copies.

Shape letters: R draws, A answers, T thresholds, D boxes that answers name, M true boxes, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpn_model.objects.boxes import FloatArray
from dpn_platform.benchmarks.objects.matching import ClassMatches

#: levels that COCO reads the precision at, to the bit
_RECALLS = np.linspace(0.0, 1.0, 101)


def average_precisions(matches: ClassMatches, weight_AR: FloatArray) -> FloatArray:
    """AP of one class at every threshold, float64[T, R]; NaN where a draw holds nothing true of it.

    Args:
        matches: of the class.
        weight_AR: how often each answer counts.
    """
    weight_DR = weight_AR[matches.answer_D]
    true_R = weight_AR[matches.true_answer_M].sum(axis=0)
    found_DR = weight_DR.cumsum(axis=0)
    values = []
    for hit_D, ignored_D in zip(matches.hit_TD, matches.ignored_TD, strict=True):
        ignored_DR = np.concatenate([np.zeros((1, weight_DR.shape[1])), weight_DR[ignored_D].cumsum(axis=0)])
        counted_DR = found_DR[hit_D] - ignored_DR[ignored_D.cumsum()[hit_D]]
        values.append(_area(weight_DR[hit_D].cumsum(axis=0), counted_DR, true_R))
    return np.stack(values)


def precisions_and_recalls(matches: ClassMatches, weight_AR: FloatArray, threshold: int = 0) -> FloatArray:
    """Precision and recall of one class at a threshold's place, float64[2, R].

    A class without answered boxes has precision 0 where something of it is true; a precision is NaN where there is
    neither, a recall where nothing is true.
    """
    hit_D, ignored_D = matches.hit_TD[threshold], matches.ignored_TD[threshold]
    hits_R = weight_AR[matches.answer_D[hit_D]].sum(axis=0)
    found_R = weight_AR[matches.answer_D[~ignored_D]].sum(axis=0)
    true_R = weight_AR[matches.true_answer_M].sum(axis=0)
    precision_R = np.where(found_R + true_R > 0, hits_R / np.maximum(found_R, 1.0), np.nan)
    recall_R = np.where(true_R > 0, hits_R / np.maximum(true_R, 1.0), np.nan)
    return np.stack([precision_R, recall_R])


def mean_over_classes(values_K: Sequence[FloatArray]) -> FloatArray:
    """The mean of what is not NaN, of each draw: classes of value 0 count, absent ones do not."""
    value_KR = np.stack(values_K)
    there_KR = ~np.isnan(value_KR)
    count_R = there_KR.sum(axis=0)
    return np.where(count_R > 0, np.where(there_KR, value_KR, 0.0).sum(axis=0) / np.maximum(count_R, 1), np.nan)


def _area(hits_DR: FloatArray, found_DR: FloatArray, true_R: FloatArray) -> FloatArray:
    """Mean of the highest precision at or behind each level of recall, float64[R].

    Args:
        hits_DR, found_DR: at each hit, how many hits and how many boxes there are up to it.
        true_R: true boxes.
    """
    precision_DR = hits_DR / np.maximum(found_DR, 1.0)
    highest_DR = np.maximum.accumulate(precision_DR[::-1], axis=0)[::-1]
    reached_DR = np.searchsorted(_RECALLS, hits_DR / np.maximum(true_R, 1.0), side="right")
    newly_DR = np.diff(reached_DR, axis=0, prepend=0)
    area_R = np.einsum("dr,dr->r", newly_DR, highest_DR) / len(_RECALLS)
    return np.where(true_R > 0, area_R, np.nan)
