"""Detection by index: spec chatrex 10.4, and pycocotools as oracle for faster-coco-eval and for our own draws."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dpn_platform.benchmarks.objects.coco_scores import NAMES, coco_records, coco_scores
from dpn_platform.benchmarks.objects.detection import detection_report
from dpn_platform.benchmarks.objects.drawn_scores import average_precisions, mean_over_classes
from dpn_platform.benchmarks.objects.image_answers import (
    ALL,
    BOXES,
    CONFIDENCE,
    CONSTANT,
    GIVEN,
    OUTLINES,
    PROPOSAL,
    AnswerSet,
    ImageAnswer,
    answer_set,
)
from dpn_platform.benchmarks.objects.matching import class_matches
from tests.scored_benchmarks.objects.small_detections import (
    CIRCLE,
    SQUARE,
    image_answer,
    of_the_specification,
    random_answers,
)


def by_pycocotools(found: AnswerSet, ranking: str) -> dict[str, float | None]:
    truth, boxes = coco_records(found, ranking)
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = truth
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(boxes), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: None if value < 0 else value for name, value in zip(NAMES, evaluation.stats.tolist(), strict=True)}


def own_ap(found: AnswerSet, ranking: str, weight_AR: np.ndarray) -> np.ndarray:
    """Mean over classes at each threshold, (T, R)."""
    return mean_over_classes(
        [average_precisions(class_matches(boxes, ranking), weight_AR) for boxes in found.classes.values()]
    )


def test_the_numbers_of_the_specification() -> None:
    report = detection_report(of_the_specification())
    wanted = {"AP": 0.831683, "AP50": 1.0, "AP75": 0.663366, "AP_small": 0.876238, "AP_medium": 0.75}
    wanted |= {"AR1": 0.666667, "AR10": 0.833333, "AR100": 0.833333}
    found = report.coco[PROPOSAL]
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=5e-7)
    assert found["AP_large"] is None
    constant = {name: report.coco[CONSTANT][name] for name in ("AP", "AP50", "AP75")}
    assert constant == pytest.approx({"AP": 0.701114, "AP50": 0.875, "AP75": 0.527228}, abs=5e-7)
    assert {name: (one.precision, one.recall) for name, one in report.classes.items()} == {
        CIRCLE: (0.75, 1.0),
        SQUARE: (0.75, 1.0),
    }
    assert (report.precision.value, report.recall.value) == (0.75, 1.0)
    assert report.proposal_recall == pytest.approx({"at_50": 1.0, "mean": 0.833333}, abs=5e-7)
    assert (report.categories, report.ranking, report.num_pictures) == (GIVEN, PROPOSAL, 3)


def test_one_answer_after_the_other() -> None:
    report = detection_report(of_the_specification())
    # Four of the first answer's seven boxes are three pairs and a wrong one; the second has a pair and a wrong one.
    assert report.f1 == pytest.approx((6 / 7, 2 / 3, 1.0))
    shuffled = detection_report([of_the_specification()[number] for number in (2, 0, 1)])
    assert shuffled.f1 == (report.f1[2], report.f1[0], report.f1[1])
    assert (shuffled.coco, shuffled.ap, shuffled.digest) == (report.coco, report.ap, report.digest)


@pytest.mark.parametrize("seed", range(12))
def test_pycocotools_agrees(seed: int) -> None:
    found = answer_set(random_answers(seed), ALL)
    assert found.rankings == (PROPOSAL, CONSTANT, CONFIDENCE)
    once = np.ones((len(found.answers), 1))
    for ranking in found.rankings:
        wanted = by_pycocotools(found, ranking)
        # Largest differences measured over 200 seeds: 2e-16 of the library, 2e-16 of our own sums.
        assert coco_scores(found, ranking) == pytest.approx(wanted, abs=1e-12)
        own = own_ap(found, ranking, once)[:, 0]
        assert [own.mean(), own[0], own[5]] == pytest.approx([wanted[name] for name in NAMES[:3]], abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_the_set_with_pictures_left_out_and_repeated(seed: int) -> None:
    answers = random_answers(seed, num_images=6)
    found = answer_set(answers, ALL)
    draw = np.random.default_rng(seed)
    weight_RA = draw.multinomial(6, [1 / 6] * 6, size=5).astype(np.float64)
    own_R = own_ap(found, CONFIDENCE, weight_RA.T).mean(axis=0)
    for weights, own in zip(weight_RA.astype(int).tolist(), own_R.tolist(), strict=True):
        repeated = [
            ImageAnswer(f"{one.image} {copy}", one.truth, one.shown, one.parsed, one.asked, one.confidence)
            for one, count in zip(answers, weights, strict=True)
            for copy in range(count)
        ]
        wanted = by_pycocotools(answer_set(repeated, GIVEN), CONFIDENCE)["AP"]
        assert own == pytest.approx(wanted, abs=1e-12)


def test_equal_scores_keep_the_order_of_indices() -> None:
    """The wrong box comes first by its index: precision 1/2 at every recall, whatever the order of the answer."""
    true = [(CIRCLE, (10, 10, 20, 20))]
    shown = [(60, 60, 20, 20), (10, 10, 20, 20)]
    for said in ((0, 1), (1, 0)):
        for scores in (None, [0.5, 0.5]):
            report = detection_report([image_answer("a", true, shown, {CIRCLE: said}, scores=scores)])
            assert report.coco[report.ranking]["AP"] == pytest.approx(0.5)


def test_classes_of_value_zero_count() -> None:
    """One class is found, one is missed, one is not there but answered."""
    true = [(CIRCLE, (10, 10, 20, 20)), (SQUARE, (60, 60, 20, 20))]
    answer = image_answer(
        "a", true, [(10, 10, 20, 20), (30, 60, 9, 9)], {CIRCLE: (0,), "star": (1,)}, asked=[CIRCLE, SQUARE, "star"]
    )
    report = detection_report([answer])
    assert report.precision.value == pytest.approx(1 / 3)
    assert report.precision.n == 3
    assert (report.recall.value, report.recall.n) == (0.5, 2)
    assert report.coco[CONSTANT]["AP"] == 0.5
    assert report.classes["star"].recall is None
    assert report.rejection.value == 0.0


def test_boxes_in_a_crowd_are_neither_right_nor_wrong() -> None:
    true = [(CIRCLE, (0, 0, 90, 90)), (CIRCLE, (10, 10, 20, 20))]
    shown = [(10, 10, 20, 20), (50, 50, 20, 20), (55, 50, 20, 20)]
    report = detection_report([image_answer("a", true, shown, {CIRCLE: (0, 1, 2)}, crowd=[True, False])])
    assert (report.precision.value, report.recall.value, report.f1) == (1.0, 1.0, (1.0,))
    assert (report.classes[CIRCLE].true, report.classes[CIRCLE].found) == (1, 1)
    assert report.proposal_recall == {"at_50": 1.0, "mean": 1.0}


def test_phrases_are_matched_as_categories() -> None:
    true = [("Stop sign", (10, 10, 20, 20)), (CIRCLE, (60, 60, 20, 20))]
    groups = {"stop sign.": (0,), "CIRCLE": (1,), "circle": (1,), "road": (0, 1)}
    shown = [(10, 10, 20, 20), (60, 60, 20, 20)]
    report = detection_report([image_answer("a", true, shown, groups, unclosed=2, out_of_range=1, mentions=3)])
    assert report.coco[CONSTANT]["AP"] == pytest.approx(1.0)
    assert list(report.classes) == [CIRCLE, "Stop sign"]
    assert report.left_out == {
        "unknown_phrases": 1,
        "out_of_range": 1,
        "duplicate": 0,
        "unclosed": 2,
        "mentions": 3,
    }


def test_what_was_not_asked_is_no_miss_but_wrong_where_it_is_named() -> None:
    """Questions about one picture may share its categories out among themselves."""
    true = [(CIRCLE, (10, 10, 20, 20)), (SQUARE, (60, 60, 20, 20))]
    shown = [(10, 10, 20, 20), (60, 60, 20, 20)]
    first = image_answer("a", true, shown, {CIRCLE: (0,)}, asked=[CIRCLE])
    second = image_answer("a", true, shown, {SQUARE: (1,)}, asked=[SQUARE])
    report = detection_report([first, second], ALL)
    assert (report.precision.value, report.recall.value, report.num_pictures) == (1.0, 1.0, 1)
    strays = image_answer("a", true, shown, {CIRCLE: (0,), SQUARE: (1,)}, asked=[CIRCLE])
    report = detection_report([strays, second], ALL)
    assert (report.classes[SQUARE].precision, report.classes[SQUARE].recall) == (0.5, 1.0)


def test_absent_categories_are_refused_or_not() -> None:
    answers = [
        image_answer("a", [], [(0, 0, 9, 9)], {CIRCLE: ()}, asked=[CIRCLE]),
        image_answer("b", [], [(0, 0, 9, 9)], {}, asked=[CIRCLE]),
        image_answer("c", [(CIRCLE, (0, 0, 9, 9))], [(0, 0, 9, 9)], {SQUARE: (0,)}, asked=[CIRCLE, SQUARE]),
    ]
    report = detection_report(answers)
    assert (report.rejection.value, report.rejection.n) == (pytest.approx(2 / 3), 3)
    assert report.f1 == (1.0, 1.0, 0.0)


def test_nothing_true_and_nothing_found_are_said_as_such() -> None:
    report = detection_report([image_answer("a", [], [(0, 0, 9, 9)], {}, asked=[CIRCLE])])
    assert set(report.coco[CONSTANT].values()) == {None}
    assert report.ap[CONSTANT].value is report.precision.value is report.recall.value is None
    assert report.proposal_recall == {"at_50": None, "mean": None}
    nothing = detection_report([image_answer("a", [(CIRCLE, (0, 0, 9, 9))], [], {}, scores=[])])
    assert (nothing.coco[PROPOSAL]["AP"], nothing.precision.value, nothing.recall.value) == (0.0, 0.0, 0.0)
    assert nothing.proposal_recall == {"at_50": 0.0, "mean": 0.0}


def answers_of(image: str, right: bool) -> ImageAnswer:
    shown: Sequence[Sequence[float]] = [(10, 10, 20, 20), (60, 60, 20, 20)]
    return image_answer(image, [(CIRCLE, shown[0])], shown, {CIRCLE: (0 if right else 1,)}, scores=[0.9, 0.2])


def test_intervals_draw_pictures() -> None:
    """Half of the pictures are right: the interval is that of a share of 40; questions of one picture hang together."""
    single = detection_report([answers_of(f"{number:02d}", number % 2 == 0) for number in range(40)])
    low, high = single.recall.ci95 or (0.0, 0.0)
    assert single.recall.value == 0.5
    assert 0.3 < low < 0.42
    assert 0.58 < high < 0.7
    ap = single.ap[PROPOSAL]
    assert ap.value == pytest.approx(0.5, abs=0.01)
    assert ap.draws == pytest.approx(single.recall.draws, abs=0.02)  # right boxes have the higher scores
    shared = detection_report([answers_of(f"{number // 4}", number // 4 % 2 == 0) for number in range(40)])
    assert np.ptp(shared.recall.ci95) > 1.5 * (high - low)


def test_an_interval_of_ap_holds_ap() -> None:
    """Where scores say nothing, repeated pictures raise AP more than its interval is wide."""
    answers = [one for seed in range(8) for one in random_answers(seed, num_images=25)]
    named = [ImageAnswer(f"{place:03d}", *list(vars(one).values())[1:]) for place, one in enumerate(answers)]
    ap = detection_report(named, ALL).ap[CONSTANT]
    assert ap.draws.mean() == pytest.approx(ap.value)
    assert ap.ci95[0] < ap.value < ap.ci95[1]


def test_a_report_is_plain_data() -> None:
    document = json.loads(json.dumps(detection_report(of_the_specification()).to_json()))
    assert document["protocol"] == {"categories": GIVEN, "ranking": PROPOSAL, "areas": BOXES, "pictures": 3}
    assert document["coco"][CONSTANT]["AP50"] == 87.5, "percent, as papers print it"
    assert document["estimates"]["ap_proposal"]["n"] == 6
    assert document["classes"][CIRCLE] | {"ap": None} == {
        "true": 3, "found": 4, "hits": 3, "precision": 75.0, "recall": 100.0, "ap": None
    }  # fmt: skip


def test_what_needs_no_package_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = detection_report(of_the_specification(), num_draws=20)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    report = detection_report(of_the_specification(), num_draws=20, with_ap=False)
    assert (report.coco, report.ap, report.f1, report.precision) == ({}, {}, whole.f1, whole.precision)


def test_sizes_are_those_of_outlines_where_all_are_known() -> None:
    """A thin thing in a large box is small."""
    answers = of_the_specification()
    outlined = [replace(one, truth=replace(one.truth, area=np.full(len(one.truth.boxes), 50.0))) for one in answers]
    found = answer_set(outlined, GIVEN)
    scores = coco_scores(found, PROPOSAL)
    assert (found.areas, scores["AP_medium"], scores["AP_large"]) == (OUTLINES, None, None)
    assert scores["AP_small"] == pytest.approx(scores["AP"])
    assert scores == pytest.approx(by_pycocotools(found, PROPOSAL))
    mixed = answer_set([outlined[0], *answers[1:]], GIVEN)
    assert (mixed.areas, coco_scores(mixed, PROPOSAL)) == (BOXES, coco_scores(answer_set(answers, GIVEN), PROPOSAL))


def test_draws_belong_to_the_questions_and_the_seed() -> None:
    answers = random_answers(3)
    first, again = detection_report(answers, ALL, num_draws=50), detection_report(answers, ALL, num_draws=50)
    other = detection_report(answers, ALL, seed=1, num_draws=50)
    assert np.array_equal(first.ap[PROPOSAL].draws, again.ap[PROPOSAL].draws)
    assert not np.array_equal(first.ap[PROPOSAL].draws, other.ap[PROPOSAL].draws)
    longer = detection_report(answers, ALL, num_draws=80)
    assert np.array_equal(longer.recall.draws[:50], first.recall.draws)
