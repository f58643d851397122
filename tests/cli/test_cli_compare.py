"""`dpn report compare`: its document, table and page, the paper's tables beside it, one line for every mix-up."""

import json

import pytest

from dpn_platform.cli import main
from dpn_platform.reports.comparison.reference_tables import average, average_recipes


def rows(scores, gold="x"):
    return [{"id": i, "parsed": "x", "gold": gold, "score": score} for i, score in enumerate(scores)]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes per-question files: write("a/gqa.jsonl", rows). The working folder is the test's own."""
    monkeypatch.chdir(tmp_path)

    def put(name, lines):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return str(path)

    return put


@pytest.fixture
def folders(write, tmp_path):
    """Two runs with the eight benchmarks of table 1; MME and POPE have parts and units."""
    for run, shift in (("control", 0), ("dpn", 1)):
        for place, name in enumerate(average_recipes()["table1"]):
            lines = rows([float((i * 7 + place) % 10 < 6 + shift) for i in range(40)])
            for i, line in enumerate(lines):
                if name == "mme":
                    line.update(id=f"OCR/{i // 2}", gold=("Yes", "No")[i % 2], part="OCR", unit=str(i // 2))
                elif name == "pope":
                    line.update(gold="yes", parsed="yes" if line["score"] else "no", part="random")
            write(f"{run}/{name}.jsonl", lines)
    return [str(tmp_path / "control"), str(tmp_path / "dpn")]


def document_of(capsys, *arguments):
    assert main.run(["report", "compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main.run(["report", "compare", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_document(capsys, folders):
    document = document_of(capsys, *folders, "--paper")
    assert document["runs"] == ["control", "dpn"]
    gqa = document["benchmarks"]["gqa"]
    difference = gqa["differences"][0]
    assert difference["difference"] == pytest.approx(10.0)
    assert (len(difference["wins"]), difference["losses"], difference["mcnemar_p"]) == (4, [], 2 / 16)
    assert difference["mcnemar_p_holm"] >= difference["mcnemar_p"]
    averages = document["averages"]["paper"]
    for run in ("control", "dpn"):
        values = {name: entry["scores"][run]["value"] for name, entry in document["benchmarks"].items()}
        assert averages["values"][run] == pytest.approx(average(values, "table1"))
    change = averages["differences"]["dpn"]
    assert change["difference"] == pytest.approx(averages["values"]["dpn"] - averages["values"]["control"])
    assert change["ci95"][0] < change["difference"] < change["ci95"][1]
    paper = {(row["table"], row["method"]): row for row in document["paper"]}
    assert paper["table1", "DPN-LLaVA"]["average"] == pytest.approx(65.47, abs=0.006)
    assert paper["table1", "LLaVA-1.5 LoRA, no compression"]["average"] == pytest.approx(65.66, abs=0.006)
    assert paper["table1", "dpn"]["average"] == pytest.approx(averages["values"]["dpn"])
    assert paper["table2", "dpn"]["average"] is None


def test_people_get_tables_and_a_page_of_one_file(capsys, folders, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "180")
    assert main.run(["report", "compare", *folders, "--paper"]) == 0
    printed = capsys.readouterr().out
    for part in ("Against control", "4 : 0", "65.2!", "69.4!", "dpn (run)", "(control)"):
        assert part in printed
    page = (tmp_path / "outputs/comparisons/control-vs-dpn.html").read_text()
    for part in ("dpn against control", "<svg", "Won and lost", "not to the printed 69.4", "same recipe"):
        assert part in page or part in " ".join(page.split())
    assert not any(address in page for address in ("http://", "https://", 'src="'))


def test_no_average_of_another_set_of_benchmarks(capsys, folders):
    document = document_of(capsys, *folders, "--benchmark", "GQA", "--benchmark", "mme")
    assert list(document["benchmarks"]) == ["gqa", "mme"]
    assert document["averages"]["paper"]["values"] == {"control": None, "dpn": None}
    assert "pope" in document["averages"]["paper"]["missing"]
    full = document["averages"]["full"]
    scores = document["benchmarks"]["mme"]["scores"]["dpn"]["value"], document["benchmarks"]["gqa"]["scores"]["dpn"]
    assert full["values"]["dpn"] == pytest.approx((scores[0] / 20 + scores[1]["value"]) / 2)


def test_single_files_are_named_after_what_tells_them_apart(capsys, write):
    a, b = write("one/gqa.jsonl", rows([1, 0])), write("two/gqa.jsonl", rows([1, 1]))
    assert document_of(capsys, a, b)["runs"] == ["one", "two"]
    c = write("one/mine.jsonl", rows([1, 0]))
    assert document_of(capsys, a, c, "--benchmark", "gqa")["runs"] == ["one", "mine"]
    assert document_of(capsys, a, a)["runs"] == ["one (1)", "one (2)"]


def test_a_named_page_is_not_overwritten(capsys, write, tmp_path):
    a = write("one/gqa.jsonl", rows([1, 0]))
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    assert "--force" in refused(capsys, a, a, "--html", str(mine))
    assert mine.read_text() == "mine"
    document_of(capsys, a, a, "--html", str(mine), "--force")


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        ({"gqa": rows([1, 0])}, {"pope": rows([1, 0])}, ["has no pope", "b has", "--benchmark"]),
        ({"gqa": rows([1, 0])}, {"gqa": rows([1, 0, 1])}, ["answer other questions", "1 only in", "('2')"]),
        ({"gqa": rows([1, 0])}, {"gqa": rows([1, 0], "y")}, ["against other answers", "2 questions, '0'"]),
        ({"gqa": rows([1])}, {}, ["b: no per-question file", "scienceqa-img"]),
        ({"gqa": rows([1])}, {"gqa": [{"question_id": 1, "text": "yes"}]}, ["gqa.jsonl, line 1", "id, parsed, gold"]),
        ({"gqa": rows([1])}, {"gqa": []}, ["no scored question"]),
        ({"mme": rows([1])}, {"mme": rows([1])}, ["MME questions without subtask"]),
        ({"gqa": rows([1])}, {"gqa": rows([1]), "x-gqa": rows([1])}, ["two files for gqa"]),
        ({"answers": rows([1])}, {"gqa": rows([1])}, ["a: no per-question file"]),
    ],
)
def test_mix_ups(capsys, write, tmp_path, first, second, parts):
    for run, files in (("a", first), ("b", second)):
        (tmp_path / run).mkdir(exist_ok=True)
        for name, lines in files.items():
            write(f"{run}/{name}.jsonl", lines)
    message = refused(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    for part in parts:
        assert part in message


def test_files_that_do_not_say_their_benchmark(capsys, write):
    unnamed = write("a/mine.jsonl", rows([1]))
    assert "give --benchmark" in refused(capsys, unnamed, unnamed)
    assert "did you mean 'gqa'" in refused(capsys, unnamed, unnamed, "--benchmark", "gqq")
    assert "no per-question file" in refused(capsys, "/nowhere/at/all")


def test_outcome_tables_are_compared_like_files_of_scores(capsys, tmp_path):
    from dpn_platform.benchmarks.outcomes import encode_table

    common = {"benchmark": "heldout", "variant": "", "in_headline": True, "gold": "red", "parsed": "red"}
    for run, scores in {"control": (1, 0, 0, 1), "mine": (1, 1, 0, 1)}.items():
        rows = [{**common, "question_id": str(n), "unit": f"p{n // 2}", "score": one} for n, one in enumerate(scores)]
        (tmp_path / run).mkdir()
        other = [{**row, "variant": "pooled", "score": 0.0} for row in rows]
        (tmp_path / run / "outcomes.parquet").write_bytes(encode_table([*rows, *other]))
    folders = [str(tmp_path / run) for run in ("control", "mine")]
    assert main.run(["report", "compare", *folders, "--html", str(tmp_path / "p.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["benchmarks"]["heldout"]
    assert document["scores"]["control"]["value"] == 50.0, "percent, of the checkpoint as it is"
    assert (document["differences"][0]["difference"], document["differences"][0]["wins"]) == (25.0, ["1"])
