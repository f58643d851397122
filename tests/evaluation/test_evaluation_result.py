"""The result as JSON and as a point; the choice of examples; what is refused."""

import base64
import json
import math

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.data.published.manifest import Manifest, Quarantine, Shard, Split
from dpn_platform.data.published.schema import SCHEMA_VERSION
from dpn_platform.evaluation.examples import choose_examples, with_pictures
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
        {"family": "a", "route": route, "correct": correct, "row_id": number}
        for number, (route, correct) in enumerate(
            [("1x1", False), ("1x1", True), ("1x1", True), ("2x2", False), ("1x2", True)]
        )
    ]
    chosen = choose_examples([*rows, {"family": "b", "route": "", "correct": False, "row_id": 9}], per_family=3)
    assert [row["row_id"] for row in chosen] == [1, 3, 4, 9]


def test_examples_carry_their_pictures(shards_folder, rows_table):
    shards = tuple(
        Shard(path=f"{n}.parquet", rows=6, first_row_id=100 + 6 * n, bytes=1, sha256="", content_sha256="")
        for n in range(2)
    )
    split = Split(rows=12, images=8, text_only=4, sources={}, shards=shards)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, name="m", source="", splits={}, quarantine=Quarantine(), fingerprint=""
    ).at(str(shards_folder))
    base = {"question": "q", "answer": "a", "gold": "g", "family": "f", "correct": True}
    rows = [
        {**base, "row_id": row_id, "has_image": has_image, "route": "2x2", "visual_tokens": [4, 1]}
        for row_id, has_image in ((110, True), (101, True), (100, False))
    ]
    entries = with_pictures(rows, manifest, split)
    images = rows_table.column("image").to_pylist()
    assert base64.b64decode(entries[0]["image"]) == images[10]
    assert base64.b64decode(entries[1]["image"]) == images[1]
    assert (entries[2]["image"], entries[2]["route"], entries[2]["visual_tokens"]) == (None, [], [])
    assert entries[0]["route"] == ["2x2"]


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
