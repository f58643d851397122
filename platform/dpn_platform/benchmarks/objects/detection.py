"""Detection by index: AP as COCO has it, precision and recall of classes, what the shown boxes allow, intervals.

Source: spec chatrex 5. Intervals draw pictures anew; see `drawn_scores` for how. Two reports on the same questions
draw the same pictures, so the difference of their draws is that of a paired comparison.

Shape letters: R draws, A answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpn_model.objects.boxes import FloatArray
from dpn_platform.benchmarks.objects.beside_ap import f1_of_answers, left_out, proposal_recall, rejection
from dpn_platform.benchmarks.objects.coco_scores import coco_scores
from dpn_platform.benchmarks.objects.drawn_scores import (
    average_precisions,
    mean_over_classes,
    precisions_and_recalls,
)
from dpn_platform.benchmarks.objects.estimates import Estimate, estimate_of, in_percent
from dpn_platform.benchmarks.objects.image_answers import GIVEN, AnswerSet, ImageAnswer, answer_set
from dpn_platform.benchmarks.objects.matching import ClassMatches, class_matches
from dpn_platform.benchmarks.statistics.pictures import Pictures

#: of pictures; an end of an interval then has a standard error of a thirtieth of its width
NUM_DRAWS = 400


@dataclass(frozen=True)
class ClassScore:
    """One class at IoU .5, boxes ranked as in the headline.

    Attributes:
        true: true boxes that are no crowd.
        found: answered boxes that lie in no crowd.
        hits: true boxes found.
        ap: mean over COCO's thresholds; None, as a recall is, where nothing is true.
    """

    true: int
    found: int
    hits: int
    precision: float | None
    recall: float | None
    ap: float | None

    def to_json(self) -> dict[str, Any]:
        """Counts, and percentages."""
        return {**vars(self), **_percentages({"precision": self.precision, "recall": self.recall, "ap": self.ap})}


@dataclass(frozen=True)
class DetectionReport:
    """What the answers of one evaluation are worth.

    Attributes:
        categories: GIVEN or ALL: AP under one is not comparable with AP under the other.
        ranking: of precision, recall and classes: PROPOSAL where all shown boxes have scores, else CONSTANT.
        areas: by what COCO's numbers tell small from large: OUTLINES or BOXES.
        digest, seed: of the questions with their true boxes, and of the draws; where both are equal, pictures were
            drawn alike.
        coco: ranking -> COCO's twelve numbers, None where there is no true box of that size.
        ap: ranking -> AP over .5:.95 with its interval.
        precision, recall: at IoU .5, of each class and then their mean; classes of value 0 count.
        classes: name of a class -> its score.
        proposal_recall: share of true boxes that some shown box overlaps: `at_50`, and `mean` over .5:.95. An upper
            bound of recall.
        rejection: share of categories asked for and not there that the answer names no box for.
        f1: of each answer at IoU .5, in the order they were given; 1 where nothing is there and nothing was found.
        left_out: what answers hold beside: `unknown_phrases`, `out_of_range`, `duplicate`, `unclosed`, `mentions`.
    """

    categories: str
    ranking: str
    areas: str
    digest: str
    seed: int
    num_pictures: int
    coco: Mapping[str, Mapping[str, float | None]]
    ap: Mapping[str, Estimate]
    precision: Estimate
    recall: Estimate
    classes: Mapping[str, ClassScore]
    proposal_recall: Mapping[str, float | None]
    rejection: Estimate
    f1: tuple[float, ...]
    left_out: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """All of it but the single answers' F1, in percent."""
        estimates = {f"ap_{ranking}": one for ranking, one in self.ap.items()}
        estimates |= {"precision_50": self.precision, "recall_50": self.recall, "rejection": self.rejection}
        return {
            "estimates": {name: one.to_json() for name, one in estimates.items()},
            "coco": {ranking: _percentages(values) for ranking, values in self.coco.items()},
            "proposal_recall": _percentages(self.proposal_recall),
            "left_out": dict(self.left_out),
            "classes": {name: score.to_json() for name, score in self.classes.items()},
            "protocol": {
                "categories": self.categories,
                "ranking": self.ranking,
                "areas": self.areas,
                "pictures": self.num_pictures,
            },
        }


def detection_report(
    answers: Sequence[ImageAnswer],
    categories: str = GIVEN,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
    *,
    with_ap: bool = True,
) -> DetectionReport:
    """Scores answered boxes.

    Args:
        answers: of one evaluation, in any order; several questions about one picture are allowed.
        categories: GIVEN where questions name the categories of their own picture, ALL where those of the whole set.
        seed: of the draws.
        num_draws: of pictures.
        with_ap: otherwise COCO's numbers and their intervals are left out, and no package is needed.

    Raises:
        DpnError: nothing to score, answers that do not fit their boxes, or faster-coco-eval is not installed.
    """
    found = answer_set(answers, categories)
    coco = {ranking: coco_scores(found, ranking) for ranking in found.rankings} if with_ap else {}
    matches = {
        ranking: {key: class_matches(boxes, ranking) for key, boxes in found.classes.items()}
        for ranking in found.rankings
    }
    digest = _digest(found)
    weight_AR = _weights(found, digest, seed, num_draws)
    headline = matches[found.rankings[0]]
    precision, recall = _precision_and_recall(headline, weight_AR)
    return DetectionReport(
        categories=categories,
        ranking=found.rankings[0],
        areas=found.areas,
        digest=digest,
        seed=seed,
        num_pictures=len({one.image for one in found.answers}),
        coco=coco,
        ap={ranking: _ap(values["AP"], matches[ranking], weight_AR) for ranking, values in coco.items()},
        precision=precision,
        recall=recall,
        classes={found.names[key]: _class_score(one) for key, one in headline.items()},
        proposal_recall=proposal_recall(found),
        rejection=rejection(found, seed),
        f1=f1_of_answers(found, headline),
        left_out=left_out(found),
    )


def _percentages(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: in_percent(value) for name, value in values.items()}


def _ap(value: float | None, matches: Mapping[str, ClassMatches], weight_AR: FloatArray) -> Estimate:
    """COCO's AP with the interval of its draws.

    AP takes the highest precision behind each level of recall, and a draw, which repeats pictures, has a rougher curve
    than the set: where scores tell little, draws lie above AP by up to two thirds of their interval's width (measured).
    So they are moved to have the set's AP as their mean. In 800 simulated evaluations of 40 and 200 pictures such
    intervals held the mean AP of sets of as many pictures in 93%.
    """
    draws_R = mean_over_classes([average_precisions(one, weight_AR).mean(axis=0) for one in matches.values()])
    num_true = sum(len(one.true_answer_M) for one in matches.values())
    if value is None:
        return estimate_of(np.nan, draws_R, num_true)
    return estimate_of(value, np.clip(draws_R + value - np.nanmean(draws_R), 0.0, 1.0), num_true)


def _precision_and_recall(matches: Mapping[str, ClassMatches], weight_AR: FloatArray) -> tuple[Estimate, Estimate]:
    once_A = np.ones((len(weight_AR), 1))
    drawn = [precisions_and_recalls(one, weight_AR) for one in matches.values()]
    whole = [precisions_and_recalls(one, once_A) for one in matches.values()]
    precision, recall = (
        estimate_of(
            float(mean_over_classes([one[part] for one in whole])[0]),
            mean_over_classes([one[part] for one in drawn]),
            sum(not np.isnan(one[part][0]) for one in whole),
        )
        for part in (0, 1)
    )
    return precision, recall


def _class_score(matches: ClassMatches) -> ClassScore:
    once_A = np.ones((int(max(matches.answer_D.max(initial=0), matches.true_answer_M.max(initial=0))) + 1, 1))
    precision, recall = precisions_and_recalls(matches, once_A)[:, 0].tolist()
    ap = float(average_precisions(matches, once_A).mean())
    hits, found = int(matches.hit_TD[0].sum()), int((~matches.ignored_TD[0]).sum())
    return ClassScore(len(matches.true_answer_M), found, hits, *map(_number, (precision, recall, ap)))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _weights(answers: AnswerSet, digest: str, seed: int, num_draws: int) -> FloatArray:
    """How often each answer counts in every draw of pictures, float64[A, R]."""
    numbers = {image: number for number, image in enumerate(dict.fromkeys(one.image for one in answers.answers))}
    picture_A = np.array([numbers[one.image] for one in answers.answers])
    pictures = Pictures(digest, np.bincount(picture_A).astype(np.float64), np.zeros(len(numbers), dtype=np.int64))
    return np.concatenate(list(pictures.drawn_counts(seed, num_draws))).T[picture_A]


def _digest(answers: AnswerSet) -> str:
    """Of the questions and what is true, not of what was shown or answered."""
    rows = [
        [one.image, sorted(one.asked), one.truth.boxes.tolist(), one.truth.categories, one.truth.crowd]
        for one in answers.answers
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
