"""The four benchmarks of a published data set with boxes: which rows they ask, what is shown, what answers score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.benchmarks.contract import Report
from dpn_platform.benchmarks.files.published import boxes_digest
from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import Question, read_questions
from dpn_platform.benchmarks.objects.image_answers import ALL, GIVEN
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.benchmarks.scoring import score_file
from dpn_platform.benchmarks.statistics.headlines import is_mean_of_questions
from dpn_platform.benchmarks.statistics.paired import run_score
from dpn_platform.benchmarks.statistics.scored_runs import ScoredRun, keyed
from dpn_platform.config.errors import DpnError
from dpn_platform.demo.detection.records import draw_record
from tests.scored_benchmarks.objects.small_published import (
    CONVERTED,
    DRAWN,
    RECORDS,
    group,
    publish_records,
    record,
    write_answers,
)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return publish_records(tmp_path / "set")


def questions_of(name: str, uri: str, variant: str = "reference") -> list[Question]:
    benchmark = find_benchmark(name)
    return read_questions(benchmark, find_sources(benchmark, Wanted(data=uri)), variant)


def scored(name: str, uri: str, answers: dict[str, str], variant: str = "reference", **more: Any) -> Report:
    metadata = more.pop("metadata", None)
    predictions = write_answers(Path(uri).parent / "answers.jsonl", answers, metadata)
    document, report = score_file(name, predictions, uri, variant=variant, **more)
    assert document["scores"] == report.scores
    return report


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("detection", ["d0", "d1"]),
        ("referring", ["r0", "r1", "r2"]),
        ("regions", ["n0", "n1"]),
        ("counting", ["c0", "c1"]),
    ],
)
def test_rows_are_asked_by_family(uri: str, name: str, ids: list[str]) -> None:
    questions = questions_of(name, uri)
    assert [question.id for question in questions] == ids
    benchmark = find_benchmark(name)
    assert {question.max_new_tokens for question in questions} == {benchmark.limits["reference"]}
    for question in questions:
        assert question.text == f"<image>\n{question.stored_prompt}"
        assert len(question.pictures) == 1


def test_a_detectors_boxes_are_shown_and_the_records_own_on_demand(uri: str) -> None:
    shown = {question.id: question.boxes for question in questions_of("det", uri)}
    own = {question.id: question.boxes for question in questions_of("det", uri, "given-boxes")}
    assert [len(boxes or ()) for boxes in shown.values()] == [3, 2]
    assert own["d0"] == shown["d0"] == tuple(map(tuple, DRAWN["boxes"]))
    assert own["d1"] == tuple(map(tuple, CONVERTED["boxes"]))
    assert shown["d1"] == tuple(map(tuple, CONVERTED["proposals"]["boxes"]))
    assert [len(question.boxes or ()) for question in questions_of("regions", uri)] == [3, 3], "the question names them"


def test_detection(uri: str) -> None:
    answers = {
        "d0": f"{group('red circle', 0)}\n{group('blue square', 1, 2)}\n{group('star')}",
        "d1": f"{group('cat', 1)}\n{group('dog', 0)}",
    }
    report = scored("detection", uri, answers)
    # d0: two of three found boxes are two of three true ones; d1: a dog is shown to nobody.
    assert [question.score for question in report.questions] == pytest.approx([2 / 3, 4 / 5])
    assert report.headline.name == "f1_50"
    assert report.headline.value == pytest.approx(100 * (2 / 3 + 4 / 5) / 2)
    scores = report.scores
    # Recall of red circles and dogs is a half, precision of blue squares; there is no star, and none was named.
    assert (scores["recall_50"], scores["precision_50"]) == pytest.approx((75.0, 87.5))
    assert scores["AP50"] == pytest.approx((51 / 101 + 1 + 1 + 51 / 101) / 4 * 100)
    assert scores["proposal_recall_50"] == pytest.approx(100 * 4 / 6)
    assert scores["estimates"]["rejection"] == {"value": 100.0, "ci95": [100.0, 100.0], "n": 1}
    assert scores["protocol"] | {"boxes": ""} == {
        "split": "test", "boxes": "", "categories": GIVEN, "ranking": "proposal", "areas": "boxes", "pictures": 2,
        "max_new_tokens": 512,
    }  # fmt: skip
    assert set(scores["coco"]) == {"proposal", "constant"}
    assert report.questions[0].parsed == {"red circle": [0], "blue square": [1, 2], "star": []}
    assert len({question.unit for question in report.questions}) == 2


def test_gold_answers_of_the_drawn_set_score_in_full(tmp_path: Path) -> None:
    """A detector's boxes that gold answers name lie on what is true."""
    records = []
    for place in range(40):
        drawn, image = draw_record(5, "test", place)
        fields = {name: drawn[name] for name in ("boxes", "scores", "truth")}
        (ask, reply), family = (turn["value"] for turn in drawn["conversations"]), drawn["family"]
        one = record(str(place), family, ask.removeprefix("<image>\n"), reply, picture=place % 6, **fields)
        records.append(one | {"size": image.size})
    uri = publish_records(tmp_path / "set", records)
    gold = {one["id"]: one["conversations"][1]["value"] for one in records}
    families = {"detection": "detect", "referring": "refer", "regions": "name", "counting": "count"}
    for name, family in families.items():
        report = scored(name, uri, {one["id"]: gold[one["id"]] for one in records if one["family"] == family})
        assert (report.n, report.headline.value) == (8, 100.0), name


def test_how_sure_the_model_was_ranks_boxes_where_it_was_noted(uri: str) -> None:
    answers = {"d0": f"{group('red circle', 0)}\n{group('blue square', 1, 2)}", "d1": group("dog", 0)}
    sure = {
        "d0": {"object_probabilities": [[0, 0.9], [1, 0.2], [2, 0.6], [1, 0.3]]},
        "d1": {"object_probabilities": []},
    }
    scores = scored("detection", uri, answers, metadata=sure).scores
    assert set(scores["coco"]) == {"proposal", "constant", "confidence"}
    # The wrong blue square is the surer one; of the dog, written in other tokens, nobody knows.
    assert scores["coco"]["confidence"]["AP50"] == pytest.approx((51 / 101 + 1 / 2 + 0 + 51 / 101) / 4 * 100)
    assert scores["coco"]["proposal"]["AP50"] == pytest.approx((51 / 101 + 1 + 0 + 51 / 101) / 4 * 100)
    half = scored("detection", uri, answers, metadata={"d0": sure["d0"]}).scores
    assert set(half["coco"]) == {"proposal", "constant"}, "every answer needs it"


def test_boxes_of_incomplete_categories_are_never_wrong(tmp_path: Path) -> None:
    """LVIS does not box every book of a shelf."""
    gold, said = f"{group('dog', 0, 1)}\n{group('cat', 2)}", f"{group('dog', 0, 1, 2)}\n{group('cat', 2)}"
    found = {}
    for incomplete in ([], ["dog"]):
        fields = CONVERTED | {"truth": CONVERTED["truth"] | {"incomplete": incomplete}}
        rows = [record("d", "detection", "detect dog; cat", gold, **fields)]
        uri = publish_records(tmp_path / f"set {len(incomplete)}", rows)
        scores = scored("detection", uri, {"d": said}, variant="given-boxes").scores
        found[len(incomplete)] = (round(scores["f1_50"], 2), scores["precision_50"], scores["classes"]["dog"]["found"])
    assert found == {0: (round(600 / 7, 2), pytest.approx(250 / 3), 3), 1: (100.0, 100.0, 2)}


def test_questions_over_all_categories_are_told_from_given_ones(tmp_path: Path) -> None:
    gold = f"{group('dog', 0, 1)}\n{group('cat', 2)}\n{group('cow')}"
    rows = [record(f"d{place}", "detect", "detect dog; cat; cow", gold, picture=place, **CONVERTED) for place in (0, 1)]
    uri = publish_records(tmp_path / "set", rows)
    report = scored("detection", uri, {"d0": gold, "d1": gold}, variant="given-boxes")
    assert report.headline.value == 100.0
    assert (report.scores["protocol"]["categories"], report.scores["protocol"]["areas"]) == (ALL, "outlines")


def test_detection_without_the_package_for_ap(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    report = scored("detection", uri, {"d0": group("red circle", 0)})
    assert report.headline.value == 50.0
    assert "AP" not in report.scores
    assert report.notes == (
        "AP needs the package faster-coco-eval, which is not installed: pip install 'dpn-lab[detection]'",
    )


def test_referring(uri: str) -> None:
    answers = {"r0": group("left red circle", 0), "r1": group("the larger dog", 1), "r2": group("a horse")}
    report = scored("rec", uri, answers)
    assert [question.score for question in report.questions] == [1.0, 0.0, 1.0], "r1's box is the second that was shown"
    assert report.headline.value == pytest.approx(200 / 3)
    estimates = report.scores["estimates"]
    assert (estimates["accuracy_present"]["value"], estimates["accuracy_present"]["n"]) == (50.0, 2)
    assert (estimates["rejection"]["value"], estimates["rejection"]["n"]) == (100.0, 1)
    own = scored("rec", uri, answers, variant="given-boxes")
    assert [question.score for question in own.questions] == [1.0, 1.0, 1.0]


def test_regions(uri: str) -> None:
    report = scored("regions", uri, {"n0": "red square", "n1": group("Dog.", 0)})
    assert [question.score for question in report.questions] == pytest.approx([1 / 3, 1.0])
    assert (report.questions[0].parsed, report.questions[1].gold) == ("red square", "dog")
    assert report.scores["estimates"].keys() == {"s_iou", "exact"}
    with pytest.raises(DpnError, match="no folder of a sentence model"):
        scored("regions", uri, {"n0": "red square"}, options={"sentence_model": uri})
    with pytest.raises(DpnError, match=r"regions: option 'sentence' is unknown \(did you mean 'sentence_model'\?\)"):
        scored("regions", uri, {"n0": "red square"}, options={"sentence": uri})
    with pytest.raises(DpnError, match="counting: option 'sentence_model' is unknown; it has none"):
        scored("counting", uri, {"c0": "one"}, options={"sentence_model": uri})


def test_a_question_about_two_regions_is_one_question(tmp_path: Path) -> None:
    gold = f"{group('dog', 0, 1)}; {group('black cat', 2)}"
    uri = publish_records(tmp_path / "set", [record("n", "region", "What are <obj0>; <obj2>?", gold, **CONVERTED)])
    report = scored("regions", uri, {"n": f"{group('dog', 0)} {group('cat', 2)}"})
    assert [(one.parsed, one.gold, one.score) for one in report.questions] == [("dog; cat", "dog; black cat", 0.75)]
    assert report.scores["protocol"]["regions"] == 2


def test_counting(uri: str) -> None:
    report = scored("counting", uri, {"c0": "There are two.", "c1": f"two {group('dogs', 0)}"})
    # The detector missed a red circle, so the gold answer did; what "dogs" are is known to it alone.
    assert [(question.parsed, question.gold) for question in report.questions] == [("2", "2"), ("2", "2")]
    assert report.headline.value == 100.0
    assert report.scores["unsaid"] == 0
    assert report.scores["estimates"]["agreement"]["value"] == 0.0


def test_answers_about_other_boxes_are_refused(uri: str) -> None:
    """A number means another box where other boxes were shown."""
    metadata = {"d1": {"boxes": boxes_digest(CONVERTED["proposals"]["boxes"])}}
    assert scored("detection", uri, {"d1": group("dog", 0)}, metadata=metadata).n == 1
    with pytest.raises(
        DpnError, match="the answer to 'd1' names boxes by number, and was given others than .* given-boxes"
    ):
        scored("detection", uri, {"d1": group("dog", 0)}, variant="given-boxes", metadata=metadata)


def test_what_is_not_asked_is_refused(uri: str) -> None:
    with pytest.raises(DpnError, match=r"1 answered questions are not in .*'w0'"):
        scored("detection", uri, {"d0": "", "w0": "7"})
    with pytest.raises(DpnError, match="not the manifest of a data set with a split 'val'"):
        scored("detection", uri, {"d0": ""}, split="val")
    rows = [one for one in RECORDS if one["family"] == "read"]
    bare = publish_records(Path(uri).parent / "bare", rows)
    with pytest.raises(DpnError, match="the split 'test' has no question of counting"):
        scored("counting", bare, {"w0": "7"})


def test_pictures_are_drawn_as_wholes_in_comparisons_too(uri: str) -> None:
    """r1 and r2 are about one picture, whether an evaluation noted that or the pictures are read."""
    answers = {"r0": "", "r1": group("the larger dog", 0), "r2": group("a horse")}
    read = scored("referring", uri, answers)
    noted = scored(
        "referring",
        uri,
        answers,
        metadata={"r0": {"image_sha": "a"}, "r1": {"image_sha": "b"}, "r2": {"image_sha": "b"}},
    )
    assert [one.unit for one in noted.questions] == ["a", "b", "b"]
    assert read.questions[1].unit == read.questions[2].unit != read.questions[0].unit
    run = ScoredRun("run", uri, {"referring": keyed(uri, "referring", read.questions)})
    found = run_score(run, "referring")
    assert found.value == pytest.approx(read.headline.value) == pytest.approx(200 / 3)
    assert found.ci95 == pytest.approx(read.headline.ci95, abs=1e-9)
    assert [is_mean_of_questions(name) for name in ("referring", "detection", "pope")] == [True, True, False]
