"""What is told beside AP: what the shown boxes allow, refusals of what is absent, single answers, what was left out.

Shape letters: T thresholds, D boxes that answers name, M true boxes, A answers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dpn_model.objects.answers import by_category, category_key
from dpn_model.objects.recall import OVERLAPS, found_at
from dpn_platform.benchmarks.objects.estimates import Estimate, mean_by_picture
from dpn_platform.benchmarks.objects.image_answers import AnswerSet
from dpn_platform.benchmarks.objects.matching import ClassMatches


def proposal_recall(answers: AnswerSet) -> dict[str, float | None]:
    """Share of true boxes that some shown box overlaps: `at_50`, and `mean` over .5:.95; None without true boxes.

    No answer's recall can be higher. It is no assignment: a box that is shown may stand for several true ones, since
    several categories may name it.
    """
    total, found_T = 0, np.zeros(len(OVERLAPS))
    for boxes in answers.classes.values():
        for number in np.unique(boxes.answer_M).tolist():
            true_M = boxes.box_M[(boxes.answer_M == number) & ~boxes.crowd_M]
            total += len(true_M)
            found_T += found_at(true_M, answers.answers[number].shown.boxes)
    if not total:
        return {"at_50": None, "mean": None}
    recall_T = found_T / total
    return {"at_50": float(recall_T[0]), "mean": float(recall_T.mean())}


def rejection(answers: AnswerSet, seed: int) -> Estimate:
    """Share of categories asked for and not there that the answer names no box for."""
    refused, pictures = [], []
    for one in answers.answers:
        there, named = set(map(category_key, one.truth.categories)), by_category(one.parsed.groups)
        for key in dict.fromkeys(map(category_key, one.asked)):
            if key not in there:
                refused.append(float(not named.get(key)))
                pictures.append(one.image)
    return mean_by_picture(refused, pictures, seed)


def f1_of_answers(answers: AnswerSet, matches: Mapping[str, ClassMatches]) -> tuple[float, ...]:
    """F1 at IoU .5 over the classes of each answer, in the order they were given.

    1 where nothing is there and nothing was found. What lies in a crowd does not count.
    """
    count = len(answers.answers)
    hits_A, boxes_A = np.zeros(count), np.zeros(count)
    for one in matches.values():
        hits_A += np.bincount(one.answer_D[one.hit_TD[0]], minlength=count)
        boxes_A += np.bincount(one.answer_D[~one.ignored_TD[0]], minlength=count)
        boxes_A += np.bincount(one.true_answer_M, minlength=count)
    f1_A = np.where(boxes_A > 0, 2 * hits_A / np.maximum(boxes_A, 1.0), 1.0)
    given = np.empty(count)
    given[list(answers.place)] = f1_A
    return tuple(given.tolist())


def left_out(answers: AnswerSet) -> dict[str, int]:
    """What the answers hold that no score counts: by phrases that are no class, and as the parser counted it."""
    parsed = [one.parsed for one in answers.answers]
    unknown = sum(key not in answers.classes for one in parsed for key in by_category(one.groups))
    return {
        "unknown_phrases": unknown,
        "out_of_range": sum(one.out_of_range for one in parsed),
        "duplicate": sum(one.duplicate for one in parsed),
        "unclosed": sum(one.unclosed for one in parsed),
        "mentions": sum(one.mentions for one in parsed),
    }
