"""Folders as predictions: LLaVA's chunks, and the results that MME's own tool scores."""

import pytest

from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.config.errors import DpnError
from tests.scored_benchmarks.small_pieces import yes_lines

CLOSING = " Please answer yes or no."


def test_chunks_are_read_in_their_order(files, scored, gqa, tmp_path):
    for place in range(8):
        name = files(f"llava-v1.5-7b/8_{place}.jsonl", yes_lines([place]))
    folder = name.rpartition("/")[0]
    (tmp_path / "llava-v1.5-7b/._8_0.jsonl").write_bytes(b"\x00\x05\x16\x07")
    document, report = scored("gqa", folder, gqa)
    assert (document["headline"]["value"], document["n"]) == (100, 8)
    assert [question.id for question in report.questions] == [str(n) for n in range(8)]
    files("llava-v1.5-7b/merge.jsonl", yes_lines(range(8)))
    assert scored("gqa", folder, gqa)[0] == document
    files("llava-v1.5-7b/merge.jsonl", yes_lines(range(7)))
    with pytest.raises(DpnError, match=r"merge\.jsonl is not what the chunks hold together"):
        read_answers(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"8_{n}.jsonl" for n in range(7)], r"7 of 8 chunks are there; missing: 8_7\.jsonl"),
        (["2_1.jsonl"], r"1 of 2 chunks are there; missing: 2_0\.jsonl"),
        (["1_0.jsonl", "2_0.jsonl", "2_1.jsonl"], r"2_0\.jsonl and 1_0\.jsonl are not chunks of one run"),
        (["1_0.jsonl", "1_1.jsonl"], r"1_0\.jsonl and 1_1\.jsonl are not chunks"),
        (["1_0.jsonl", "answers.jsonl"], r"1_0\.jsonl and answers\.jsonl are not chunks"),
        (["merge.jsonl"], r"is a folder; an answer file is needed.*found: merge\.jsonl"),
    ],
)
def test_incomplete_or_mixed_chunks_are_named(files, tmp_path, names, message):
    for name in names:
        files(f"run/{name}", yes_lines([1]))
    with pytest.raises(DpnError, match=message):
        read_answers(str(tmp_path / "run"))


def test_the_results_of_mmes_own_tool(files, scored, tmp_path):
    gold = str(tmp_path / "release")
    for subtask in ("count", "artwork"):
        files(f"release/{subtask}/1.txt", f"Is it a?{CLOSING}\tYes\nIs it b?{CLOSING}\tNo\n")
    for subtask, second in {"count": "No", "artwork": "Yes, it is."}.items():
        files(
            f"results/{subtask}.txt",
            f"1.txt\tIs it a?{CLOSING}\tYes\tYes\n1.txt\tIs it b?{CLOSING}\tNo\t{second}\n",
        )
    folder = str(tmp_path / "results")
    files("results/._count.txt", "x")
    scores = scored("mme", folder, gold)[0]["scores"]
    assert (scores["subtasks"]["count"]["score"], scores["subtasks"]["artwork"]["score"]) == (200, 50)
    assert scores["perception"] == 250
    files("results/count.txt", f"1.txt\tIs it a?{CLOSING}\tYes\n")
    with pytest.raises(DpnError, match=r"count\.txt, line 1: image, question, gold and answer.*found 3 of 4"):
        scored("mme", folder, gold)
    with pytest.raises(DpnError, match="is the same file as the annotations"):
        scored("mme", gold, gold)
