"""VQAv2, TextVQA and VizWiz from their files: joins, groups, variants, proxies, and the servers' files."""

import json

import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.scoring import submission_of
from dpn_platform.benchmarks.textvqa import question_of
from dpn_platform.config.errors import DpnError

SHORT = "\nAnswer the question using a single word or phrase."


def humans(*answers):
    return [{"answer": answer, "answer_id": i, "answer_confidence": "yes"} for i, answer in enumerate(answers, 1)]


def vqa_rows():
    return [
        {"question_id": 1, "answers": humans(*["yes"] * 10), "answer_type": "yes/no", "question_type": "is the"},
        {"question_id": 2, "answers": humans(*["2"] * 3, *["3"] * 7), "answer_type": "number", "question_type": "how"},
        {"question_id": 3, "answers": humans(*["red", "blue"] * 5), "answer_type": "other", "question_type": "what"},
    ]


@pytest.mark.parametrize("name", ["val.json", "val.parquet"])
@pytest.mark.parametrize(("variant", "expected"), [("reference", (1, 0.9, 1)), ("official", (0, 0.9, 1))])
def test_vqav2(files, answers, scored, name, variant, expected):
    rows = vqa_rows()
    gold = files(name, rows if name.endswith(".parquet") else {"annotations": rows})
    predictions = answers({3: "the red", 1: "Yes", 2: "two"})
    document, report = scored("vqa-v2", predictions, gold, variant=variant)
    assert [question.score for question in report.questions] == pytest.approx(expected)
    assert document["headline"]["value"] == pytest.approx(100 * sum(expected) / 3)
    assert document["scores"]["answer_type"]["number"] == {"n": 1, "accuracy": pytest.approx(90)}
    assert set(document["scores"]["question_type"]) == {"is the", "how", "what"}
    assert "proxy" in document["scores"]["protocol"]["split"]
    assert (document["benchmark"], document["n"]) == ("vqav2", 3)


def test_vqav2_submission_holds_every_id(files, answers):
    questions = files("test2015.jsonl", [{"question_id": i, "image": "x", "text": "?"} for i in (5, 6, 7)])
    predictions = answers({7: "The Dog's!", 5: "two"})
    listed = json.loads(submission_of("vqav2", Inputs(predictions, "", questions), "out.json"))
    assert listed == [
        {"question_id": 5, "answer": "2"},
        {"question_id": 6, "answer": ""},
        {"question_id": 7, "answer": "dog 's"},
    ]
    twice = files("twice.json", [{"question_id": 5, "answer": "a"}, {"question_id": 5, "answer": "b"}])
    with pytest.raises(DpnError, match="2 answers to 1 questions"):
        submission_of("vqav2", Inputs(twice, "", questions), "out.json")
    with pytest.raises(DpnError, match="1 answered questions are not in"):
        submission_of("vqav2", Inputs(answers({9: "x"}), "", questions), "out.json")


def textvqa_files(files, answers):
    rows = [
        {"image_id": "00aa", "question": "What IS this?", "question_id": 1, "answers": ["cat"] * 10},
        {"image_id": "00aa", "question": "what colour?", "question_id": 2, "answers": ["red"] * 5 + ["blue"] * 5},
    ]
    ocr = "\nReference OCR token: A, b"
    predictions = answers(
        [("00aa", "Red.", f"What colour?{ocr}{SHORT}"), ("00aa", "dog", f"What is this?\nReference OCR token: {SHORT}")]
    )
    return files("val.json", {"data": rows}), predictions, files("val.parquet", rows)


def test_textvqa_joins_by_image_and_question(files, answers, scored):
    gold, predictions, parquet = textvqa_files(files, answers)
    for annotations in (gold, parquet):
        document, report = scored("textvqa", predictions, annotations)
        assert [(question.parsed, question.score) for question in report.questions] == [("dog", 0), ("red", 1)]
        assert document["scores"]["protocol"]["prompts"] == "with OCR line"
    by_own_id, _ = scored("textvqa", answers({1: "cat", 2: "RED"}), parquet, variant="harness")
    assert by_own_id["headline"]["value"] == 100


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (f"What?\nReference OCR token: a{SHORT}", "what?"),
        (f"Reference OCR token: a\nWhat?{SHORT}", "what?"),
        (f"What?{SHORT}", "what?"),
        ("What?", None),
        (None, None),
        ("a\nb\nc\nd", None),
    ],
)
def test_textvqa_question_of_a_prompt(prompt, expected):
    assert question_of(prompt) == expected


def test_vizwiz_by_image_and_by_id(files, answers, scored):
    rows = [
        {"image": "VizWiz_val_00000000.jpg", "question": "q", "answers": humans(*["unanswerable"] * 8, "a", "b")},
        {"image": "VizWiz_val_00000001.jpg", "question": "q", "answers": humans(*["grey"] * 10)},
    ]
    rows = [{**row, "answer_type": kind} for row, kind in zip(rows, ("unanswerable", "other"), strict=True)]
    gold = files("val.json", rows)
    numbered = answers({0: "Unanswerable", 1: "Grey"}, "numbered.jsonl")
    named = files("named.json", [{"image": row["image"], "answer": "unanswerable"} for row in rows])
    document, _ = scored("vizwiz", numbered, gold)
    assert document["headline"]["value"] == 100
    assert document["scores"]["answer_type"]["unanswerable"] == {"n": 1, "accuracy": 100}
    assert scored("vizwiz", named, gold)[0]["headline"]["value"] == 50
    asked = files("llava.jsonl", [{"question_id": 8, "image": row["image"]} for row in rows[:1]])
    assert scored("vizwiz", answers({8: "a"}), files("one.json", rows[:1]), asked)[0]["headline"]["value"] == (
        pytest.approx(30)
    )


def test_vizwiz_submission_and_private_gold(files, answers, scored):
    questions = files("llava_test.jsonl", [{"question_id": 0, "image": "VizWiz_test_00000000.jpg", "text": "?"}])
    predictions = answers({0: "The Cat"})
    assert json.loads(submission_of("vizwiz", Inputs(predictions, "", questions), "o.json")) == [
        {"image": "VizWiz_test_00000000.jpg", "answer": "cat"}
    ]
    private = files("test.parquet", [{"question_id": 0, "question": "q", "answers": None, "category": None}])
    with pytest.raises(DpnError, match=r"no human answers.*test split.*private.*--submission"):
        scored("vizwiz", predictions, private)
