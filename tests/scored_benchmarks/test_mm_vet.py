"""MM-Vet: grades aggregated over runs, the judge's file, and a judge that is plugged in."""

import json

import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.mm_vet.grades import grade
from dpn_platform.benchmarks.scoring import submission_of
from dpn_platform.config.errors import DpnError

QUESTIONS = {
    "v1_0": {"question": "q", "answer": "a<OR>b", "capability": ["ocr", "math"]},
    "v1_1": {"question": "q", "answer": "a", "capability": ["math", "ocr"]},
    "v1_2": {"question": "q", "answer": "a", "capability": ["rec"]},
}


def grades(*runs, model="gpt-4-0613"):
    return {
        key: {"model": [model] * len(runs[0]), "score": list(run)} for key, run in zip(QUESTIONS, runs, strict=True)
    }


@pytest.mark.parametrize("layout", ["mm-vet.json", "test.parquet"])
def test_aggregation(files, scored, layout):
    table = [{"question_id": key, **row, "capability": ",".join(row["capability"])} for key, row in QUESTIONS.items()]
    gold = files(layout, table if layout.endswith(".parquet") else QUESTIONS)
    document, report = scored("mm-vet", files("grades.json", grades((1.0, 0.8), (0.0, 0.0), (0.5, 0.1))), gold)
    scores = document["scores"]
    assert document["headline"]["value"] == pytest.approx(40)
    assert scores["runs"] == pytest.approx([50, 30])
    assert scores["std"] == pytest.approx(10)  # of the population
    assert scores["capability"]["ocr"] == {"n": 2, "score": pytest.approx(45)}
    assert scores["capability_integration"]["ocr_math"] == {"n": 2, "score": pytest.approx(45)}
    assert scores["capability_integration"]["rec"] == {"n": 1, "score": pytest.approx(30)}
    assert scores["protocol"]["comparable"] is True
    assert [question.score for question in report.questions] == pytest.approx([0.9, 0, 0.3])


def test_another_judge_is_not_comparable(files, scored):
    gold = files("mm-vet.json", QUESTIONS)
    document, _ = scored("mmvet", files("g.json", grades((1,), (1,), (1,), model="gpt-4o")), gold)
    assert document["scores"]["protocol"]["comparability"].startswith("not comparable")
    plain, _ = scored("mmvet", files("p.json", dict.fromkeys(QUESTIONS, 0.5)), gold)
    assert (plain["headline"]["value"], plain["scores"]["protocol"]["judge"]) == (50, "unknown")


def test_no_score_without_a_judge(files, answers, scored):
    predictions = answers({0: "a", 1: "b"})
    with pytest.raises(DpnError, match="no score without a judge.*--submission"):
        scored("mm-vet", predictions, files("mm-vet.json", QUESTIONS))
    assert json.loads(submission_of("mm-vet", Inputs(predictions, ""), "o.json")) == {"v1_0": "a", "v1_1": "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (grades((1.5,), (1,), (1,)), r"'v1_0' are \[1.5\]; numbers from 0 to 1"),
        (grades((1, 0), (1,), (1, 1)), "'v1_1' has 1 runs, the first question has 2"),
        ({"v1_0": 1, "v1_1": 1}, r"no answer to 1 of the 3 questions.*'v1_2'"),
    ],
)
def test_bad_grades(files, scored, content, message):
    with pytest.raises(DpnError, match=message):
        scored("mm-vet", files("g.json", content), files("mm-vet.json", QUESTIONS))


class Judge:
    name = "scripted"

    def __init__(self, *words):
        self.words, self.calls = list(words), []

    def __call__(self, question, ground_truth, prediction, temperature):
        self.calls.append((ground_truth, temperature))
        return self.words.pop(0)


def test_judge_is_asked_again_hotter_until_it_grades():
    judge = Judge("well", "2.0", "0.5 because")
    assert grade(judge, "q", "a<AND>b", "p") == (0.5, "0.5 because")
    assert judge.calls == [("a <AND> b", 0.0), ("a <AND> b", 0.5), ("a <AND> b", 1.0)]
    assert grade(Judge(*["no"] * 5), "q", "a", "p") == (0.0, "no")


def test_grades_as_annotations_beside_answers_and_questions(files, answers, scored):
    gold, graded = files("mm-vet.json", QUESTIONS), files("g.json", grades((1,), (0,), (0.5,)))
    document, _ = scored("mm-vet", answers({0: "a", 1: "b", 2: "c"}), graded, gold)
    assert document["headline"]["value"] == 50
