"""`dpn score`: its document, its files, and one line for every mix-up."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpn_platform.benchmarks.registry import MODULES
from dpn_platform.cli import main
from tests.scored_benchmarks.objects.small_published import RECORDS, publish_records, write_answers


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in rows) if path.suffix == ".jsonl" else json.dumps(rows)
        )
    return str(path)


@pytest.fixture
def gqa(tmp_path):
    """Predictions and annotations of three questions, two of them right."""
    gold = {
        str(i): {"question": "q", "answer": "yes", "imageId": "n", "types": {"structural": "verify"}} for i in (1, 2, 3)
    }
    lines = [{"question_id": str(i), "text": text} for i, text in ((1, "Yes."), (2, "no"), (3, "yes"))]
    return (
        "--predictions",
        write(tmp_path / "gqa.jsonl", lines),
        "--annotations",
        write(tmp_path / "testdev.json", gold),
    )


def refused(capsys, *arguments):
    assert main.run(["score", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_document_and_per_question_file(capsys, gqa, tmp_path):
    each = tmp_path / "each.jsonl"
    assert main.run(["score", "gqa", *gqa, "--per-question", str(each), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["benchmark", "variant", "n", "headline", "scores"]
    assert (document["benchmark"], document["variant"], document["n"]) == ("gqa", "reference", 3)
    headline = document["headline"]
    assert (headline["name"], headline["value"]) == ("accuracy", pytest.approx(200 / 3))
    low, high = headline["ci95"]
    assert 0 <= low < headline["value"] < high <= 100
    assert [json.loads(line) for line in each.read_text().splitlines()][1] == {
        "id": "2",
        "parsed": "no",
        "gold": "yes",
        "score": 0.0,
    }


def test_files_are_not_overwritten(capsys, gqa, tmp_path):
    each = tmp_path / "mine.txt"
    each.write_text("mine")
    assert "--force" in refused(capsys, "gqa", *gqa, "--per-question", str(each))
    assert each.read_text() == "mine"
    for options in (["--force"], []):  # the second time the same content is there already
        assert main.run(["score", "gqa", *gqa, "--per-question", str(each), *options]) == 0
    assert each.read_text() != "mine"


def test_people_get_tables(capsys, gqa):
    assert main.run(["score", "GQA", *gqa]) == 0
    printed = capsys.readouterr().out
    for part in ("gqa (reference), n = 3", "66.67", "95% interval", "binary", "verify", "validity"):
        assert part in printed


def test_submission_is_written_and_nothing_scored(capsys, tmp_path):
    answers = write(tmp_path / "a.jsonl", [{"question_id": 0, "text": "x"}])
    target = tmp_path / "send.json"
    assert main.run(["score", "mm-vet", "--predictions", answers, "--submission", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "benchmark": "mm-vet",
        "variant": "reference",
        "submission": str(target),
    }
    assert json.loads(target.read_text()) == {"v1_0": "x"}
    assert "nothing is submitted" in refused(capsys, "gqa", "--predictions", answers, "--submission", str(target))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["gqq"], ["benchmark 'gqq'", "did you mean 'gqa'", "mm-vet"]),
        (["sciencqa"], ["did you mean 'scienceqa-img'"]),
        (["gqa", "--variant", "harnes"], ["variant 'harnes'", "did you mean 'harness'", "reference, harness"]),
        (["scienceqa", "--variant", "x"], ["allowed are reference, llava-hr, harness"]),
    ],
)
def test_unknown_names(capsys, gqa, arguments, parts):
    message = refused(capsys, *arguments, *gqa)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ([("1", "yes"), ("3", "yes")], ["no answer to 1 of the 3 questions", "'2'", "2 answers found, 3 needed"]),
        ([("1", "a"), ("1", "b"), ("2", "c"), ("3", "d")], ["1 questions are answered more than once ('1')"]),
        ([("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")], ["1 answered questions are not in", "('4')"]),
        ([("7", "a"), ("8", "b")], ["none of them is", "another split or benchmark"]),
        ([("OCR/1.png", "yes")], ["look like MME's, not GQA's"]),
        ([("validation_Art_1", "A")], ["look like MMMU's"]),
        ([("1", None)], ["record 1: 'text' is null"]),
        ([], ["holds no answers"]),
    ],
)
def test_ids_that_do_not_fit(capsys, gqa, tmp_path, lines, parts):
    predictions = write(tmp_path / "bad.jsonl", [{"question_id": key, "text": text} for key, text in lines])
    message = refused(capsys, "gqa", "--predictions", predictions, *gqa[2:])
    for part in ["bad.jsonl", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("benchmark", "rows", "parts"),
    [
        ("vqav2", [{"question_id": 1, "question": "q", "answer": "yes", "category": "OCR"}], ["no human answers"]),
        ("gqa", [{"question_id": 1, "text": "q", "label": "yes", "image": "i"}], ["has no 'id'", "looks like POPE"]),
        ("seed", [{"index": 1, "A": "x", "B": "y", "category": "c"}], ["'question_id'", "looks like MMBench"]),
        ("gqa", [{"id": 1, "question": "q", "imageId": "n", "answer": None}], ["1 of 1 questions have no answer"]),
        ("mmmu", [{"id": "test_Art_1", "question_type": "open", "answer": "?"}], ["the test split", "validation"]),
        ("mme", [{"question_id": "a/1", "question": "q", "answer": "Yes", "category": "a"}], ["'a' is no subtask"]),
    ],
)
def test_annotations_of_another_benchmark_or_split(capsys, gqa, tmp_path, benchmark, rows, parts):
    annotations = write(tmp_path / "gold.parquet", rows)
    message = refused(capsys, benchmark, *gqa[:2], "--annotations", annotations)
    for part in ["gold.parquet", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("absent.jsonl", None, ["absent.jsonl", "nothing is there"]),
        ("p.jsonl", '{"question_id": 1\n', ["p.jsonl, line 1: not valid JSON"]),
        ("p.json", '"text"', ["not an answer file"]),
        ("p.json", '{"1": 2}', ["the answer to '1' is of type int"]),
        ("p.json", "[1]", ["record 1: of type int"]),
        ("p.jsonl", '{"text": "x"}', ["record 1: no id (question_id)"]),
        ("p.parquet", "no parquet", ["cannot be read as parquet"]),
        ("p.jsonl", b"\xff\xfe", ["not UTF-8"]),
    ],
)
def test_unreadable_predictions(capsys, gqa, tmp_path, name, content, parts):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(capsys, "gqa", "--predictions", str(tmp_path / name), *gqa[2:])
    for part in parts:
        assert part in message


def test_missing_annotations_and_absent_questions(capsys, gqa):
    assert "--annotations is needed" in refused(capsys, "gqa", *gqa[:2])
    assert "--questions" in refused(capsys, "vqav2", *gqa[:2], "--submission", "x.json")


def test_scoring_loads_no_framework(run_dpn, gqa):
    code = run_dpn("score", "gqa", *gqa, "--json", PYTHONPROFILEIMPORTTIME="1")
    assert code.returncode == 0
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in code.stderr.splitlines() if "|" in line}
    assert "numpy" in loaded
    assert loaded.isdisjoint({"torch", "ray", "transformers", "mlflow", "pandas", "plotly"})


def test_help_lists_the_variants(capsys):
    assert main.run(["score", "vqa-v2", "--help"]) == 0
    named = capsys.readouterr().out
    assert "Variants of vqav2 (the first is the default):\n  reference  LLaVA's" in named
    assert "\n  official   the official program on the answer as it is\n  harness " in named
    assert named.count("Variants of") == 1
    assert main.run(["score", "--help"]) == 0
    of_all = capsys.readouterr().out
    assert all(f"Variants of {name} " in of_all for name in MODULES)
    options = main.run(["score", "regions", "--help"])
    assert (options, "Options of regions:\n  sentence_model  folder of" in capsys.readouterr().out) == (0, True)


def test_answers_about_a_data_set_with_boxes(capsys, tmp_path):
    """The split is named where the data set holds several; its table has what papers print."""
    uri = publish_records(tmp_path / "set", RECORDS[:2], split="val")
    gold = {one["id"]: one["conversations"][1]["value"] for one in RECORDS[:2]}
    files = ("--predictions", write_answers(tmp_path / "a.jsonl", gold), "--annotations", uri)
    assert "not the manifest of a data set with a split 'test'" in refused(capsys, "detection", *files)
    files += ("--variant", "given-boxes", "--split", "val")
    assert main.run(["score", "detection", *files]) == 0
    printed = capsys.readouterr().out
    assert "headline: f1_50" in printed
    for line in (r"AP50 +\S+ ", r"rejection +\S+ ", r"red circle +\S+ +2 ", r"ranking +\S+ constant"):
        assert re.search(line, printed), line
    per_question = tmp_path / "detection.jsonl"
    assert main.run(["score", "detection", *files, "--per-question", str(per_question), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["headline"]["value"] == pytest.approx(90.0), "one red circle is no proposal"
    assert [json.loads(line)["id"] for line in per_question.read_text().splitlines()] == ["d0", "d1"]
    assert "--option model: write NAME=VALUE" in refused(capsys, "regions", *files, "--option", "model")
    assert "option 'model' is unknown" in refused(capsys, "regions", *files[:4], "--option", "model=x")
