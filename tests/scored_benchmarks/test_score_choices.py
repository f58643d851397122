"""ScienceQA, MMBench, SEED-Bench and MMMU from their files."""

import io
import json
import xml.etree.ElementTree as ET
import zipfile

import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.scoring import question_lines, submission_of
from dpn_platform.config.errors import DpnError

LETTER = "\nAnswer with the option's letter from the given choices directly."


def problem(answer, choices=("yes", "no"), **more):
    return {"question": "Q?", "choices": list(choices), "answer": answer, "hint": "", "image": None, **more}


def science_folder(files):
    problems = {
        "4": problem(0, image="image.png", subject="social science", grade="grade2"),
        "7": problem(1, image="image.png", hint="H", subject="natural science", grade="grade2"),
        "9": problem(0, subject="natural science", grade="grade3"),
        "11": problem(0, split="train"),
    }
    files("sqa/pid_splits.json", {"test": ["4", "7", "9"], "train": ["11"]})
    return files("sqa/problems.json", problems).rpartition("/")[0], problems


def test_scienceqa_folder(files, answers, scored):
    folder, _ = science_folder(files)
    tagged = "<image>\nQ?"
    predictions = answers([("4", "A", tagged), ("7", "C", tagged), ("9", "A", "Q?")])
    for gold in (folder, f"{folder}/problems.json"):
        document, report = scored("sqa", predictions, gold)
        assert document["headline"]["name"] == "accuracy_image"
        assert document["headline"]["value"] == 50  # C is beyond the two choices
        assert (document["n"], document["scores"]["accuracy_all"]) == (2, pytest.approx(200 / 3))
        assert document["scores"]["grade"]["grade2"] == {"n": 2, "accuracy": 50}
        assert [question.parsed for question in report.questions] == ["A", "C", "A"]


def test_scienceqa_absent_answers_are_wrong_and_reported(files, answers, scored):
    folder, _ = science_folder(files)
    document, report = scored("scienceqa-img", answers([("4", "A", "<image>\nQ?")]), folder)
    # LLaVA's program would say 100: to it a question without answer has no image.
    assert (document["headline"]["value"], document["n"]) == (50, 2)
    assert document["scores"]["accuracy_all"] == pytest.approx(100 / 3)
    assert document["scores"]["unanswered"] == 2
    assert report.notes == ("2 of 3 questions have no answer and count as wrong",)


@pytest.mark.parametrize("layout", ["folder", "parquet", "without prompts", "without images"])
def test_scienceqa_never_rises_when_answers_are_missing(files, answers, scored, layout):
    folder, problems = science_folder(files)
    rows = [("4", "A", "<image>\nQ?"), ("7", "A", "<image>\nQ?"), ("9", "A", "Q?")]
    if layout == "parquet":
        texts = ["Q?\nA. yes\nB. no", "Context: H\nQ?\nA. yes\nB. no", "Q?\nA. yes\nB. yes"]
        table = [problem(0), problem(1, hint="H"), problem(0, choices=("yes", "yes"))]
        folder = files("test.parquet", [{k: v for k, v in row.items() if k != "image"} for row in table])
        rows = [(key, letter, f"<image>\n{text}") for (key, letter, _), text in zip(rows, texts, strict=True)]
    elif layout == "without prompts":
        rows = [(key, letter, None) for key, letter, _ in rows]
    elif layout == "without images":
        rows = [(key, letter, "Q?") for key, letter, _ in rows]
    whole, _ = scored("sqa", answers(rows, "whole.jsonl"), folder)
    assert whole["n"] == (2 if layout in ("folder", "without prompts") else 3)
    kept = [rows[:1], rows[1:], rows[:2], rows[::2], rows[2:]]
    for number, some in enumerate(kept):
        document, _ = scored("sqa", answers(some, f"{number}.jsonl"), folder)
        assert document["headline"]["value"] <= whole["headline"]["value"]
        assert document["scores"]["unanswered"] == 3 - len(some)
        assert document["n"] == (2 if layout == "without images" and some == rows[2:] else whole["n"])


def test_scienceqa_parquet_joins_equal_prompts_in_order(files, answers, scored):
    rows = [problem(0), problem(1), problem(1, hint="H", choices=("x", "y", "z"))]
    gold = files("test.parquet", [{k: v for k, v in row.items() if k != "image"} for row in rows])
    texts = ["Q?\nA. yes\nB. no", "Q?\nA. yes\nB. no", "Context: H\nQ?\nA. x\nB. y\nC. z"]
    predictions = answers(
        [
            (str(n), letter, f"<image>\n{text}{LETTER}")
            for n, letter, text in zip((50, 60, 70), "ABB", texts, strict=True)
        ]
    )
    document, _ = scored("sqa", predictions, gold)
    assert (document["headline"]["value"], document["n"]) == (100, 3)
    assert scored("sqa", answers({0: "A", 1: "A", 2: "B"}), gold)[0]["headline"]["value"] == pytest.approx(200 / 3)


def mmbench_rows():
    rows = [
        {"index": 1, "A": "cat", "B": "dog", "C": None, "answer": "A", "category": "x"},
        {"index": 1_000_001, "A": "dog", "B": "cat", "C": None, "answer": "B", "category": "x"},
        {"index": 2, "A": "one", "B": "two", "C": "three", "answer": "C", "category": "y"},
        {"index": 1_000_002, "A": "two", "B": "three", "C": "one", "answer": "B", "category": "y"},
        {"index": 2_000_002, "A": "three", "B": "one", "C": "two", "answer": "A", "category": "y"},
    ]
    more = {
        "question": "Q",
        "hint": None,
        "D": None,
        "l2-category": "L",
        "split": "dev",
        "source": "s",
        "comment": None,
    }
    return [{**row, **more} for row in rows]


def as_tsv(rows):
    columns = [*rows[0], "image"]
    lines = ["\t".join("nan" if row.get(c) is None else str(row[c]) for c in columns[:-1]) + "\tBASE64" for row in rows]
    return "\n".join(["\t".join(columns), *lines]) + "\n"


@pytest.mark.parametrize("name", ["dev.tsv", "dev.parquet"])
def test_mmbench_circular(files, answers, scored, name):
    rows = mmbench_rows()
    gold = files(name, as_tsv(rows) if name.endswith(".tsv") else rows)
    texts = {1: "A", 1_000_001: "cat", 2: "C", 1_000_002: "B. three", 2_000_002: "B"}
    document, report = scored("mmb", answers(texts), gold)
    assert document["n"] == 2
    assert document["headline"]["value"] == 50
    assert document["scores"]["first_pass_accuracy"] == 100
    assert document["scores"]["category"] == {"x": {"n": 1, "accuracy": 100}, "y": {"n": 1, "accuracy": 0}}
    assert document["scores"]["l2_category"] == {"L": {"n": 2, "accuracy": 50}}
    assert len(report.questions) == document["scores"]["n_rotations"] == 5
    unresolved, _ = scored("mmbench-cn", answers({**texts, 2_000_002: "A or B"}, "u.jsonl"), gold)
    assert unresolved["scores"]["unresolved"] == 1
    assert unresolved["headline"]["value"] == 50


def test_mmbench_table_with_line_ends_and_quotes_in_cells(files, answers, scored):
    table = 'index\tquestion\thint\tA\tB\tanswer\timage\n7\t"two\nlines, ""quoted"""\t\tcat\tNone\tA\tBASE64\n'
    gold = files("dev.tsv", table)
    assert scored("mmbench", answers({7: "A"}), gold)[0]["headline"]["value"] == 100
    assert scored("mmbench", answers({7: "B"}, "b.jsonl"), gold)[0]["scores"]["unresolved"] == 1


def test_mmbench_all_rounds_maps_letters_back(files, scored):
    gold = files("dev.parquet", mmbench_rows()[:1])
    rounds = [("A", ["A", "B"], ["cat", "dog"]), ("B", ["B", "A"], ["dog", "cat"])]
    lines = [
        {"question_id": 1, "round_id": n, "text": text, "option_char": chars, "options": options}
        for n, (text, chars, options) in enumerate(rounds)
    ]
    assert scored("mmbench", files("a.jsonl", lines), gold)[0]["headline"]["value"] == 100
    lines[1]["text"] = "A"  # now the dog
    assert scored("mmbench", files("b.jsonl", lines), gold)[0]["headline"]["value"] == 0


def test_mmbench_submission_table(files, answers, scored):
    rows = [{key: value for key, value in row.items() if key != "answer"} for row in mmbench_rows()[:2]]
    gold = files("test.tsv", as_tsv(rows))
    predictions = answers({1: "A & <b>\x07", 1_000_001: "B"})
    with pytest.raises(DpnError, match="no answer.*test split"):
        scored("mmbench", predictions, gold)
    data = submission_of("mmbench", Inputs(predictions, gold), "out.xlsx")
    sheet = ET.fromstring(zipfile.ZipFile(io.BytesIO(data)).read("xl/worksheets/sheet1.xml"))
    cells = [["".join(cell.itertext()) for cell in row] for row in sheet[0]]
    assert cells[0] == ["index", "question", "A", "B", "C", "D", "prediction", "split"]
    assert cells[1] == ["1", "Q", "cat", "dog", "", "", "A & <b>", "dev"]
    with pytest.raises(DpnError, match=r"\.xlsx or \.tsv"):
        submission_of("mmbench", Inputs(predictions, gold), "out.json")


def seed_rows():
    base = {"question": "Q", "choice_a": "1", "choice_b": "2", "choice_c": "3", "choice_d": "4"}
    kinds = [("5", "A", "image", 1), ("6", "B", "image", 7), ("6", "C", "image", 7), ("8", "D", "video", 10)]
    return [
        {**base, "question_id": key, "answer": gold, "data_type": kind, "question_type_id": number}
        for key, gold, kind, number in kinds
    ]


@pytest.mark.parametrize("name", ["SEED-Bench.json", "seed.parquet"])
def test_seed_keeps_repeated_ids_and_takes_the_last_answer(files, answers, scored, name):
    rows = seed_rows()
    gold = files(name, rows if name.endswith(".parquet") else {"questions": rows, "question_type": {}})
    image_only = answers([(5, "A", None), (6, "A", None), (6, "C", None)])
    document, _ = scored("seed", image_only, gold)
    assert document["headline"]["value"] == pytest.approx(200 / 3)
    assert (document["n"], document["scores"]["video"]) == (3, None)
    everything = answers([(5, "a. 1", None), (6, "C", None), (6, "C", None), (8, "Dog", None)], "all.jsonl")
    reference, _ = scored("seed-image", everything, gold)
    harness, _ = scored("seed-image", everything, gold, variant="harness")
    assert reference["scores"]["total"] == {"n": 4, "accuracy": 25}
    assert harness["scores"]["total"] == {"n": 4, "accuracy": 75}
    assert harness["scores"]["question_type"]["Instance Interaction"] == {"n": 2, "accuracy": 50}


def test_mmmu(files, answers, scored):
    rows = [
        {"id": "validation_Art_Theory_1", "question_type": "multiple-choice", "answer": "B", "options": "['x', 'y']"},
        {"id": "validation_Math_1", "question_type": "open", "answer": "['4', '5']", "options": "[]"},
        {"id": "validation_Math_2", "question_type": "multiple-choice", "answer": "A", "options": "['x', 'y']"},
    ]
    gold = files("validation.parquet", rows)
    texts = {rows[0]["id"]: "(B)", rows[1]["id"]: "it is 5", rows[2]["id"]: "B. No"}
    document, report = scored("mmmu", answers(texts), gold)
    scores = document["scores"]
    assert scores["random_fallbacks"] == 1
    marks = [json.loads(line).get("random_fallback") for line in question_lines(report).splitlines()]
    assert marks == [None, None, True]
    assert scores["accuracy_fallbacks_wrong"] == pytest.approx(200 / 3)
    assert scores["discipline"]["Art & Design"] == {"n": 1, "accuracy": 100}
    assert scores["subject"]["Math"]["n"] == 2
    assert document == scored("mmmu", answers(texts, "again.jsonl"), gold)[0]
    harness, _ = scored("mmmu", answers(texts, "h.jsonl"), gold, variant="harness")
    assert (harness["scores"]["random_fallbacks"], harness["headline"]["value"]) == (0, pytest.approx(200 / 3))
    # A folder as on the hub: per subject, with splits that are not scored.
    files("hub/Art_Theory/validation-00000-of-00001.parquet", rows[:1])
    files("hub/Math/validation-00000-of-00001.parquet", rows[1:])
    hub = files("hub/Math/test-00000-of-00001.parquet", [{**rows[0], "id": "test_Math_1", "answer": "?"}])
    assert scored("mmmu", answers(texts, "f.jsonl"), hub.partition("/Math")[0])[0] == document
    # The authors' dictionaries: letters that are parsed already, and gold without options.
    plain = {row["id"]: {"question_type": row["question_type"], "ground_truth": row["answer"]} for row in rows}
    parsed = files("parsed.json", {rows[0]["id"]: "B", rows[1]["id"]: "5", rows[2]["id"]: "B"})
    dictionary = files("answer_dict_val.json", plain)
    assert scored("mmmu", parsed, dictionary)[0]["headline"]["value"] == pytest.approx(200 / 3)
    with pytest.raises(DpnError, match=r"'\(B\)'.*no options.*--questions"):
        scored("mmmu", answers(texts, "raw.jsonl"), dictionary)
    assert scored("mmmu", answers(texts, "raw2.jsonl"), dictionary, gold)[0]["scores"]["random_fallbacks"] == 1
