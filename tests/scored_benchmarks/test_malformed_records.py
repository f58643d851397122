"""A gold or answer record with another kind of value in it: one line with file, record, field, value and need."""

import json
import math

import pytest

from dpn_platform.benchmarks.files.fields import SCALAR, WHOLE, check_fields, one_of, optional, whole_number
from dpn_platform.benchmarks.files.json_text import parse_json
from dpn_platform.benchmarks.scoring import question_lines
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.small_pieces import humans, mmbench_rows, seed_row

PROBLEM = {"question": "Q?", "choices": ["x", "y"], "answer": 1, "image": "i.png"}
QUESTION = {"question": "q", "answer": "yes", "imageId": "n"}
TEXTVQA = {"image_id": "00aa", "question_id": 1, "question": "What?", "answers": humans("go")}
VQA = {"question_id": 1, "answers": humans("go")}
MME = {"question_id": "color/1.png", "question": "Is it?", "answer": "Yes", "category": "color"}
MM_VET = {"question": "q", "answer": "a", "capability": ["ocr"]}
POPE = {"id": "1", "question": "Is there?", "answer": "yes", "category": "random"}
MMMU = {"id": "validation_Art_1", "question_type": "multiple-choice", "answer": "B", "options": "['x', 'y']"}


@pytest.mark.parametrize(
    ("benchmark", "gold", "message"),
    [
        (
            "sqa",
            {"3": {**PROBLEM, "answer": "A"}},
            r"record 1 \(id 3\): 'answer' is 'A'; the place of one of its 2 choi",
        ),
        ("sqa", {"3": PROBLEM, "5": {**PROBLEM, "answer": 30}}, r"record 2 \(id 5\): 'answer' is 30; the place of one"),
        ("sqa", {"3": {**PROBLEM, "answer": -1}}, "'answer' is -1; the place of one of its 2 choices, counted from 0,"),
        ("sqa", {"3": {**PROBLEM, "answer": True}}, "'answer' is True; the place of one"),
        ("sqa", {"3": {**PROBLEM, "choices": "xy"}}, "'choices' is 'xy'; a list of choices is needed"),
        ("sqa", {"3": {**PROBLEM, "question": None}}, "'question' is null; a text is needed"),
        (
            "gqa",
            {"3": {**QUESTION, "types": "query"}},
            "'types' is 'query'; an object with structural and semantic type",
        ),
        ("gqa", {"3": {**QUESTION, "types": {"structural": 3}}}, "'types.structural' is 3; a text or null is needed"),
        (
            "gqa",
            {"3": {**QUESTION, "groups": ["g"]}},
            r"'groups' is \['g'\]; an object with the question's global group",
        ),
        ("gqa", {"3": {**QUESTION, "answer": 7}}, "'answer' is 7; a text or null is needed"),
        (
            "textvqa",
            {"data": [{**TEXTVQA, "question": None}]},
            r"record 1 \(id 1\): 'question' is null; a text is needed",
        ),
        (
            "textvqa",
            [{**TEXTVQA, "answers": "go"}],
            "'answers' is 'go'; a list of texts or of objects with an answer or",
        ),
        (
            "vqav2",
            [{**VQA, "answers": 5}],
            "'answers' is 5; a list of texts or of objects with an answer or null is nee",
        ),
        (
            "vqav2",
            [{**VQA, "answers": [{"answer": 2}, {}]}],
            r"'answers\[1\].answer' is null; a text or a number is neede",
        ),
        ("vqav2", [{**VQA, "question_id": []}], r"record 1: 'question_id' is \[\]; a text or a number is needed"),
        (
            "vizwiz",
            [{"image": {"a": 1}, "answers": humans("go")}],
            r"'image' is {'a': 1}; a text or a number is needed",
        ),
        ("mme", [{**MME, "question": None}], r"record 1 \(id color/1.png\): 'question' is null; a text is needed"),
        ("mme", [{**MME, "category": ["color"]}], r"'category' is \['color'\]; a text is needed"),
        ("mmbench", [{**mmbench_rows()[0], "index": "four"}], "'index' is 'four'; a whole number is needed"),
        ("mmbench", [{**mmbench_rows()[0], "index": "\u00b2"}], "'index' is '\u00b2'; a whole number is needed"),
        (
            "mmbench",
            [{**mmbench_rows()[0], "answer": "C"}],
            r"'answer' of index 4 is 'C', which is no option of it \(A, B\)",
        ),
        ("mmbench", [{**mmbench_rows()[0], "category": {}}], "'category' is {}; a text or a number or null is needed"),
        (
            "seed",
            [{**seed_row(1, "image"), "question_type_id": "scene"}],
            "'question_type_id' is 'scene'; a whole number",
        ),
        ("seed", [{**seed_row(1, "image"), "answer": "E"}], "'answer' is 'E'; A, B, C or D is needed"),
        (
            "mmmu",
            [{**MMMU, "answer": {"a": 1}}],
            "'answer' is {'a': 1}; a text, a number or a list of them or null is n",
        ),
        ("mmmu", [{**MMMU, "options": 2}], "'options' is 2; a list of options, or a text with one or null is needed"),
        ("pope", [{**POPE, "question": 3}], r"record 1 \(id 1\): 'question' is 3; a text is needed"),
    ],
)
def test_gold(files, answers, scored, benchmark, gold, message):
    name = "problems.json" if benchmark == "sqa" else "gold.json"
    with pytest.raises(DpnError, match=f"{name}.*{message}"):
        scored(benchmark, answers({1: "A"}), files(name, gold))


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["3"]}, "'test' is null; a list of problem ids is needed"),
        (["3"], "'test' is null; a list of problem ids is needed"),
        ({"test": {"3": 1}}, "'test' is {'3': 1}; a list of problem ids is needed"),
        ({"test": ["3", None]}, r"'test\[1\]' is null; a text or a number is needed"),
    ],
)
def test_splits(files, answers, scored, splits, message):
    files("sqa/pid_splits.json", splits)
    with pytest.raises(DpnError, match=rf"pid_splits\.json: {message}"):
        scored("sqa", answers({3: "A"}), files("sqa/problems.json", {"3": PROBLEM}))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"round_id": "first"}, r"record 1 \(id 4\): 'round_id' is 'first'; a whole number or null is needed"),
        (
            {"round_id": 1, "option_char": ["B", "C"]},
            r"'option_char' is \['B', 'C'\]; a list of the letters A, B in the",
        ),
        ({"round_id": 1, "option_char": ["B"]}, "'option_char' is .'B'.; a list of the letters A, B"),
        ({"round_id": 1, "option_char": 3}, "answer to '4' in round 1: 'option_char' is 3; a list of the letters A, B"),
        ({"question_id": {"a": 4}}, "record 1: 'question_id' is {'a': 4}; a text or a number is needed"),
        ({"question_id": math.nan}, "record 1: 'question_id' is nan; a text or a number is needed"),
    ],
)
def test_answers(files, scored, record, message):
    lines = [{"question_id": 4, "text": "A", "option_char": ["A", "B"], **record}, {"question_id": 4, "text": "A"}]
    with pytest.raises(DpnError, match=rf"p\.jsonl.*{message}"):
        scored("mmbench", files("p.jsonl", lines), files("dev.parquet", mmbench_rows()[:1]))


@pytest.mark.parametrize(
    ("gold", "grades", "message"),
    [
        (
            {**MM_VET, "capability": None},
            {"score": [1]},
            "m.json, record 1 .id v1_0.: 'capability' is null; a text or a",
        ),
        ({**MM_VET, "capability": ["ocr", 5]}, {"score": [1]}, r"'capability\[1\]' is 5; a text is needed"),
        (MM_VET, {"score": [1], "model": 4}, "g.json, grades of 'v1_0': 'model' is 4; a list with the judge's name"),
        (MM_VET, {"score": [1], "model": "gpt-4-0613"}, "'model' is 'gpt-4-0613'; a list with the judge's name"),
        (MM_VET, {"score": [10**400]}, r"the grades of 'v1_0' are \[10+\.\.\.0+\]; numbers from 0 to 1"),
    ],
)
def test_grades(files, scored, gold, grades, message):
    with pytest.raises(DpnError, match=message):
        scored("mm-vet", files("g.json", {"v1_0": grades}), files("m.json", {"v1_0": gold}))


def test_options_beside_an_answer(files, scored):
    gold = files("gold.json", {MMMU["id"]: {"question_type": "multiple-choice", "ground_truth": "B"}})
    line = {"id": MMMU["id"], "response": "(B)", "index2ans": {"A": "x", "B": ["y"]}}
    with pytest.raises(
        DpnError, match=r"p.json, answer to 'validation_Art_1': 'index2ans.B' is \['y'\]; a text or a n"
    ):
        scored("mmmu", files("p.json", [line]), gold)
    with pytest.raises(DpnError, match="no options to read it with"):
        scored("mmmu", files("p.json", [{**line, "index2ans": {}}]), gold)


@pytest.mark.parametrize("depth", [400, 1000, 100_000])
@pytest.mark.parametrize("role", ["gold", "answers"])
def test_deep_nesting(files, answers, scored, depth, role):
    deep = "[" * depth + "]" * depth
    gold, said = json.dumps({"1": {**QUESTION, "answer": "@"}}), json.dumps({"question_id": 1, "text": "@"})
    texts = (gold.replace('"@"', deep), said) if role == "gold" else (gold, said.replace('"@"', deep))
    with pytest.raises(DpnError, match="nested too deeply|a text or null is needed|a text is needed") as refusal:
        scored("gqa", files("p.json", texts[1]), files("gold.json", texts[0]))
    assert len(str(refusal.value)) < 500


def test_half_a_character_is_scored_and_written(files, scored):
    gold = files("gold.json", {"1": {**QUESTION, "answer": "cat \ud83d"}, "2": QUESTION})
    said = files("p.json", [{"question_id": "1", "text": "Cat \ud83d"}, {"question_id": "2", "text": "yes \ude00"}])
    document, report = scored("gqa", said, gold)
    assert document["headline"]["value"] == 50
    assert [json.loads(line)["parsed"] for line in question_lines(report).splitlines()] == ["cat \ufffd", "yes \ufffd"]


@pytest.mark.parametrize(
    ("text", "document"),
    [
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'["a\ud83db", "\\ud83d"]', ["a\ufffdb", r"\ud83d"]),
        (r'{"\ude00": 0.1, "b": 12345678901234567890}', {"\ufffd": 0.1, "b": 12345678901234567890}),
    ],
)
def test_parse_json(text, document):
    assert parse_json(text) == document


@pytest.mark.parametrize("text", ["{", "[" * 1000 + "]" * 1000, "1" * 5000])
def test_parse_json_refuses(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        ("12", 12),
        (4.0, 4),
        (-1, None),
        (True, None),
        (0.5, None),
        ("\u00b2", None),
        ("9" * 19, None),
        ("", None),
    ],
)
def test_whole_number(value, number):
    assert whole_number(value) == number
    assert WHOLE.fits(value) is (number is not None)


def test_fields_that_may_be_absent_are_checked_where_they_are():
    needed, rows = {"id": SCALAR}, [{"id": 1}, {"id": "2", "kind": None}, {"id": 3.5, "kind": "b"}]
    check_fields(rows, "f.json", "F", needed, kind=one_of("a", "b"))
    assert optional(WHOLE).needed == "a whole number or null"
    with pytest.raises(DpnError, match=r"^f.json, record 3 \(id 3.5\): 'kind' is 'b'; a or c or null is needed$"):
        check_fields(rows, "f.json", "F", needed, kind=one_of("a", "c"))
    with pytest.raises(DpnError, match="record 1 has no 'name', so it is not F's annotation file"):
        check_fields(rows, "f.json", "F", {"name": SCALAR})
