"""AP beside AP: only of the same kind of question, and paired by picture; runs without answers say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.benchmarks.scoring import outcome_table, score_file
from dpn_platform.benchmarks.statistics.scored_runs import read_runs
from dpn_platform.cli import main
from dpn_platform.config.errors import DpnError
from dpn_platform.reports.comparison.answered_boxes import ApComparison, compare_ap
from dpn_platform.reports.comparison.page import comparison_page
from dpn_platform.reports.comparison.runs import compare_runs
from tests.scored_benchmarks.objects.small_published import CONVERTED, group, publish_records, record, write_answers


def published(folder: Path, absent: str = "") -> str:
    """Six pictures of the same things, asked for all that is there."""
    names = ["dog", "cat", *([absent] if absent else [])]
    gold = "\n".join([group("dog", 0, 1), group("cat", 2), *([group(absent)] if absent else [])])
    asked = f"detect {'; '.join(names)}"
    return publish_records(folder, [record(f"d{n}", "detect", asked, gold, picture=n, **CONVERTED) for n in range(6)])


@pytest.fixture
def evaluation(tmp_path: Path) -> Callable[..., str]:
    """(name, data set, answers) -> the folder of an evaluation, as `dpn evaluate` leaves it."""

    def make(name: str, uri: str, answers: Sequence[str], *, several: bool = False) -> str:
        folder = tmp_path / name
        part = folder / "detection" if several else folder
        part.mkdir(parents=True)
        file = write_answers(part / "answers.jsonl", {f"d{place}": text for place, text in enumerate(answers)})
        document, report = score_file("detection", file, uri, variant="given-boxes")
        (folder / "outcomes.parquet").write_bytes(outcome_table("detection", report))
        about: dict[str, Any] = {"answers_uri": file, "annotations": uri, "variant": "given-boxes", "split": "test"}
        result = {"scores": {"detection": {}}, "about": about | {"scores": document["scores"]}}
        (part / "result.json").write_text(json.dumps(result))
        if several:
            parts = {"parts": {"detection": str(part / "result.json")}}
            (folder / "result.json").write_text(json.dumps({"scores": {"detection": {}}, "about": parts}))
        return str(folder)

    return make


RIGHT = f"{group('dog', 0, 1)}\n{group('cat', 2)}"
HALF = f"{group('dog', 0)}\n{group('cat', 2)}"


def test_ap_is_compared_on_the_same_pictures(
    evaluation: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = published(tmp_path / "set")
    base = evaluation("control", uri, [RIGHT] * 3 + [HALF] * 3)
    other = evaluation("mine", uri, [RIGHT] * 2 + [HALF] * 4, several=True)
    page = tmp_path / "page.html"
    assert main.run(["report", "compare", base, other, "--html", str(page), "--json"]) == 0
    ap = json.loads(capsys.readouterr().out)["ap"]
    assert (ap["categories"], ap["left_out"]) == ("given", "")
    first, second = ap["scores"]
    assert (first["run"], first["ranking"], first["change"]) == ("control", "constant", None)
    # Of twelve dogs nine and eight are found, of six cats all.
    values = [100 * (levels / 101 + 1) / 2 for levels in (76, 67)]
    assert [one["ap"]["value"] for one in ap["scores"]] == pytest.approx(values)
    assert second["change"]["value"] == pytest.approx(values[1] - values[0])
    low, high = second["change"]["ci95"]
    assert low < second["change"]["value"] <= high <= 0
    assert f"{values[0]:.2f} (" in page.read_text()
    assert main.run(["report", "compare", base, other, "--html", str(page)]) == 0
    assert "AP of answered boxes, given categories" in capsys.readouterr().out


def test_given_categories_are_never_held_against_all(evaluation: Callable[..., str], tmp_path: Path) -> None:
    given = evaluation("given", published(tmp_path / "given set"), [RIGHT] * 6)
    every = evaluation("all", published(tmp_path / "all set", "cow"), [f"{RIGHT}\n{group('cow')}"] * 6)
    with pytest.raises(
        DpnError, match=r"AP with given categories \(given\) and AP with all categories \(all\) are not"
    ):
        compare_ap(read_runs([given, every]))


def test_what_cannot_be_said_is_said(
    evaluation: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = published(tmp_path / "set")
    base = evaluation("control", uri, [RIGHT] * 6)
    scores = tmp_path / "detection.jsonl"
    rows = [{"id": f"d{place}", "parsed": "", "gold": RIGHT, "score": 0.5} for place in range(6)]
    scores.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = read_runs([base, str(scores)])
    found = compare_ap(runs)
    assert "detection.jsonl is no evaluation of `dpn evaluate`, whose answers AP is made of" in found.left_out
    assert "Boxes" not in comparison_page(compare_runs(runs), (), found)
    (Path(base) / "answers.jsonl").unlink()
    assert "answers.jsonl" in compare_ap(read_runs([base])).left_out
    monkeypatch.setattr("dpn_platform.reports.comparison.answered_boxes.has_coco", lambda: False)
    assert "faster-coco-eval" in compare_ap(read_runs([base])).left_out
    gqa = tmp_path / "gqa.jsonl"
    gqa.write_text(scores.read_text())
    assert compare_ap(read_runs([str(gqa)])) == ApComparison()
