"""Two AP beside each other: paired, and never one over given categories with one over all."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from dpn_model.objects.answers import ParsedAnswer
from dpn_platform.benchmarks.objects.comparison import ap_change, check_same_categories
from dpn_platform.benchmarks.objects.detection import detection_report
from dpn_platform.benchmarks.objects.image_answers import ALL, CONFIDENCE, CONSTANT, GIVEN, PROPOSAL
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.objects.small_detections import of_the_specification, random_answers


def test_given_and_all_categories_are_not_comparable() -> None:
    check_same_categories(GIVEN, GIVEN)
    with pytest.raises(DpnError) as refusal:
        check_same_categories(GIVEN, ALL, ("night 1", "night 2"))
    told = "AP with given categories (night 1) and AP with all categories (night 2) are not comparable"
    assert str(refusal.value).startswith(told)
    assert "\n" not in str(refusal.value)
    answers = random_answers(0)
    with pytest.raises(DpnError, match="not comparable"):
        ap_change(detection_report(answers, GIVEN, num_draws=5), detection_report(answers, ALL, num_draws=5))


def test_a_change_is_paired() -> None:
    """One picture of thirty is answered better; what the others do cancels."""
    answers = random_answers(5, num_images=30)
    base = detection_report(answers, ALL)
    same = ap_change(base, detection_report(answers, ALL))
    assert (same.value, same.ci95) == (0.0, (0.0, 0.0))
    truth = answers[4].truth
    assert len(truth.boxes) > 1
    best: dict[str, list[int]] = {name: [] for name in answers[4].asked}
    for row, category in enumerate(truth.categories):
        best[category].append(row)
    better = replace(
        answers[4],
        shown=replace(answers[4].shown, boxes=truth.boxes, scores=np.full(len(truth.boxes), 0.9)),
        parsed=ParsedAnswer({name: tuple(rows) for name, rows in best.items()}),
    )
    other = detection_report([*answers[:4], better, *answers[5:]], ALL)
    change = ap_change(base, other)
    assert change.value == pytest.approx(other.ap[PROPOSAL].value - base.ap[PROPOSAL].value)
    assert 0 < change.value < 0.1
    low, high = base.ap[PROPOSAL].ci95
    assert np.ptp(change.ci95) < 0.7 * (high - low)  # measured: 0.58; unpaired it would be 1.4


def test_what_cannot_be_paired_is_refused() -> None:
    answers = of_the_specification()
    base = detection_report(answers, num_draws=20)
    with pytest.raises(DpnError, match="asked other questions"):
        ap_change(base, detection_report(answers[:2], num_draws=20))
    with pytest.raises(DpnError, match=re.escape("(0, 20) and (1, 20); wanted the same for both")):
        ap_change(base, detection_report(answers, seed=1, num_draws=20))
    with pytest.raises(DpnError, match=re.escape("(0, 20) and (0, 30)")):
        ap_change(base, detection_report(answers, num_draws=30))
    with pytest.raises(DpnError, match="no AP by 'confidence': ranked by 'proposal', 'constant'"):
        ap_change(base, base, CONFIDENCE)
    assert ap_change(base, base, CONSTANT).value == 0.0


def test_true_boxes_and_proposals_may_be_compared() -> None:
    """The questions are the same; what was shown is what is compared."""
    answers = of_the_specification()
    oracle = [
        replace(one, shown=replace(one.shown, boxes=one.truth.boxes, scores=None), parsed=ParsedAnswer({}))
        for one in answers
    ]
    base, other = detection_report(answers, num_draws=20), detection_report(oracle, num_draws=20)
    assert (base.ranking, other.ranking) == (PROPOSAL, CONSTANT)
    assert ap_change(base, other).value == pytest.approx(-0.831683, abs=5e-7)
