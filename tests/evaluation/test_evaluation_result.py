"""The result as JSON and as a point; the choice of examples; what is refused."""

import base64
import json
import math

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.data.published.manifest import Manifest, Quarantine
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.examples import choose_examples
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import evaluate, evaluation_key


@pytest.fixture
def result():
    return EvaluationResult(
        key={"checkpoint_uri": "s3://dpn/runs/a/export"},
        benchmark="demo",
        n=10,
        accuracy=0.7,
        accuracy_ci=(0.4, 0.9),
        per_family={"colour": FamilyScore(n=10, accuracy=0.7, ci=(0.4, 0.9), majority_rate=0.2)},
        flops_ratio={"eq8": 0.4, "swiglu": 0.5},
        visual_tokens_mean=math.nan,
        routes={"colour": {"2x2": 10}},
        outcomes_uri="s3://dpn/runs/a/evaluation/outcomes.parquet",
        result_uri="s3://dpn/runs/a/evaluation/result.json",
        examples=({"question": "?"},),
    )


def test_json_round_trip(result):
    text = json.dumps(result.to_json(), allow_nan=False)
    again = EvaluationResult.from_json(json.loads(text))
    assert again.to_json() == result.to_json()
    assert math.isnan(again.visual_tokens_mean)


@pytest.mark.parametrize("change", [{"schema_version": 9}, {"unknown": 1}, {"accuracy_ci": None}])
def test_what_is_no_result_is_refused(result, change):
    with pytest.raises(DpnError, match=r"here\.json"):
        EvaluationResult.from_json({**result.to_json(), **change}, "here.json")


def test_metrics_have_the_public_names(result):
    metrics = result.metrics()
    assert metrics["eval/demo/accuracy"] == 0.7
    assert metrics["eval/demo/colour/accuracy"] == 0.7
    assert metrics["cost/flops_ratio_eq8"] == 0.4
    assert metrics["cost/flops_ratio_swiglu"] == 0.5
    assert "cost/visual_tokens_mean" not in metrics, "not measured"


def test_point(result):
    point = result.to_point("dense", "dense", params={}, is_control=True, run_id="r1")
    assert (point.name, point.n, point.run_id, point.is_control) == ("dense", 10, "r1", True)
    assert point.per_family["colour"].majority_rate == 0.2


def test_examples_show_every_route_first():
    rows = [
        {"family": "a", "route": route, "score": float(correct), "place": number}
        for number, (route, correct) in enumerate(
            [("1x1", False), ("1x1", True), ("1x1", True), ("2x2", False), ("1x2", True)]
        )
    ]
    chosen = choose_examples([*rows, {"family": "b", "route": "", "score": 0.0, "place": 9}], per_family=3)
    assert [row["place"] for row in chosen] == [1, 3, 4, 9]


def test_examples_carry_their_pictures(save_checkpoint, evaluated, rows_table):
    entries = evaluated(save_checkpoint(name="dpn"), rows_table).examples
    images = {base64.b64encode(image).decode() for image in rows_table.column("image").to_pylist() if image}
    assert {entry["family"] for entry in entries} == {"colour", "text"}
    for entry in entries:
        assert (entry["image"] in images) == (entry["family"] == "colour")
        assert bool(entry["route"]) == bool(entry["visual_tokens"]) == (entry["family"] == "colour")


def test_the_key_holds_what_decides_the_outcome():
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, name="m", source="", splits={}, quarantine=Quarantine(), fingerprint="f"
    )

    def key(**settings):
        return evaluation_key("uri", parse_config({"name": "x", "eval": settings}), manifest)

    assert key() == key(batch_size=7, num_actors=2)
    assert key() != key(limit=5)
    assert key() != key(max_new_tokens=9)


def test_a_missing_checkpoint_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text(
        Manifest(
            schema_version=SCHEMA_VERSION, name="m", source="", splits={}, quarantine=Quarantine(), fingerprint="f"
        )
        .to_bytes()
        .decode()
    )
    config = parse_config({"name": "x", "data": {"uri": str(tmp_path / "data")}})
    with pytest.raises(DpnError, match=r"nowhere: no checkpoint there \(no config.json"):
        evaluate(str(tmp_path / "nowhere"), config)
