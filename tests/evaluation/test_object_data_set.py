"""Benchmarks about boxes on the experiment's own data set: asked, answered and scored like the held-out split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_model.objects.record import Objects
from dpn_platform.benchmarks.outcomes import read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import fingerprint, parse_config
from dpn_platform.data.published.manifest import load_manifest
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import evaluate, evaluation_key
from dpn_platform.evaluation.runner import actor
from tests.evaluation.scripted_model import ScriptedModel
from tests.scored_benchmarks.objects.small_published import RECORDS, publish_records


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish_records(tmp_path_factory.mktemp("set"))


def right(text: str, objects: Objects | None) -> str:
    """The gold answer, in numbers of the boxes that are shown."""
    asked = text.removeprefix("<image>\n")
    gold = {one["conversations"][0]["value"].removeprefix("<image>\n"): one for one in RECORDS}[asked]
    answer = str(gold["conversations"][1]["value"])
    if objects is None or len(objects) == len(gold["objects"].get("boxes", ())):
        return answer
    # Of the three true boxes the last two are proposed.
    return answer.replace("<obj0>", "").replace("<obj1>", "<obj0>").replace("<obj2>", "<obj1>")


@pytest.fixture
def evaluated(
    monkeypatch: pytest.MonkeyPatch, save_checkpoint: Callable[..., str], uri: str, tmp_path: Path
) -> Callable[..., tuple[EvaluationResult, ScriptedModel]]:
    """(settings of `eval`) -> the result of right answers, and the model that gave them."""

    def make(**settings: Any) -> tuple[EvaluationResult, ScriptedModel]:
        model = ScriptedModel(right)
        monkeypatch.setattr(actor, "load_model", lambda *_, **__: model)
        config = parse_config({"name": "e", "data": {"uri": uri}, "eval": settings}, "test")
        output_uri = str(tmp_path / "out")
        return evaluate(save_checkpoint(name="dpn"), config, output_uri=output_uri, in_this_process=True), model

    return make


def test_all_of_them_in_one_evaluation(evaluated: Callable[..., Any]) -> None:
    names = ["detection", "referring", "regions", "counting", "heldout"]
    result, model = evaluated(benchmarks=names, accuracy={"name": "objects", "of": names[:4]}, max_new_tokens=48)
    assert model.limits == {512, 256, 128, 48}
    found = {
        name: (one["label"], one["metric"], one["n"], round(one["value"], 2)) for name, one in result.scores.items()
    }
    # Of the dogs that d1 asks for, one is proposed; the answers of the held-out split are compared as texts.
    assert found == {
        "detection": ("detection", "f1_50", 2, round(50 * (4 / 5 + 4 / 5), 2)),
        "referring": ("referring", "accuracy", 3, 100.0),
        "regions": ("regions", "s_iou", 2, 100.0),
        "counting": ("counting", "accuracy", 2, 50.0),
        "heldout": ("shapes", "accuracy", 11, round(8 / 11, 2)),
    }
    assert result.accuracy == pytest.approx((0.8 + 1 + 1 + 0.5) / 4)
    rows = read_table(result.outcomes_uri)
    detected = [row for row in rows if row["benchmark"] == "detection"]
    assert [row["family"] for row in detected] == ["detect", "detection"]
    assert [row["unit"] for row in rows] == [row["image_sha"] for row in rows]
    assert result.metrics()["eval/detection/f1_50"] == result.scores["detection"]["value"]


def test_one_of_them_with_its_own_boxes(evaluated: Callable[..., Any], tmp_path: Path) -> None:
    result, _ = evaluated(benchmarks=[{"name": "det", "variant": "given-boxes"}])
    assert (result.benchmark, result.n) == ("detection-given-boxes", 2)
    assert [row["score"] for row in read_table(result.outcomes_uri)] == pytest.approx([0.8, 1.0])
    assert result.about["scores"]["AP"] > 80
    assert result.key["split"] == "test"
    assert "max_new_tokens" not in result.key


def test_a_limit_counts_the_asked_rows(evaluated: Callable[..., Any]) -> None:
    result, _ = evaluated(benchmarks=["counting"], limit=1)
    assert [row["question_id"] for row in read_table(result.outcomes_uri)] == ["c0"]


def test_a_data_set_of_ones_own_may_be_another(evaluated: Callable[..., Any], uri: str, tmp_path: Path) -> None:
    other = publish_records(tmp_path / "other", [RECORDS[7], RECORDS[2]], split="val")
    result, _ = evaluated(benchmarks=["counting", {"name": "referring", "root": other, "split": "val"}])
    assert [one["n"] for one in result.scores.values()] == [2, 1]
    assert result.key["other_data"] == {"referring": load_manifest(other).fingerprint}
    with pytest.raises(DpnError, match="data set shapes has no split 'test'; it has: val"):
        evaluated(benchmarks=[{"name": "referring", "root": other}])
    with pytest.raises(DpnError, match="referring: gold and pictures are in the data set; leave out --images"):
        evaluated(benchmarks=[{"name": "referring", "images": other}])


def test_keys_of_earlier_evaluations_are_what_they_were(uri: str) -> None:
    manifest = load_manifest(uri)
    plain = parse_config({"name": "x"})
    wanted = {"checkpoint_uri": "u", "limit": None, "data_fingerprint": manifest.fingerprint, "split": "test"}
    assert evaluation_key("u", plain, manifest) == wanted | {"max_new_tokens": 4}
    gqa = parse_config({"name": "x", "eval": {"benchmarks": [{"name": "gqa", "root": "r"}]}})
    assert evaluation_key("u", gqa, None) == {
        "checkpoint_uri": "u", "limit": None, "benchmarks": [{"name": "gqa", "root": "r"}], "accuracy": "gqa"
    }  # fmt: skip
    assert "options" not in plain.model_dump()["eval"]["benchmarks"][0]
    regions = {"name": "regions", "options": {"sentence_model": "f"}}
    with_options = parse_config({"name": "x", "eval": {"benchmarks": [regions]}})
    assert with_options.model_dump()["eval"]["benchmarks"][0]["options"] == {"sentence_model": "f"}
    assert fingerprint(with_options) != fingerprint(plain)
    assert evaluation_key("u", with_options, manifest)["benchmarks"] == [regions]
