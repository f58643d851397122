"""`dpn evaluate`: what a tracker is given, and that one that is away or missing never fails an evaluation."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from dpn_platform.cli.evaluation_tracking import log_evaluation
from dpn_platform.config.schema import TrackingConfig
from dpn_platform.evaluation.result import EvaluationResult

COST = {"flops_ratio_eq8": 0.4, "num_timed": 10}
SCORE = {"label": "gqa-harness", "metric": "accuracy", "value": 61.5, "ci": [55.0, 68.0], "n": 12, "unit": "percent"}
RESULT = EvaluationResult(
    key={},
    benchmark="gqa-harness",
    n=12,
    accuracy=0.615,
    accuracy_ci=(0.55, 0.68),
    per_family={},
    flops_ratio={"eq8": 0.4},
    visual_tokens_mean=math.nan,
    routes={},
    outcomes_uri="outcomes.parquet",
    result_uri="result.json",
    scores={"gqa": {**SCORE, "cost": COST}},
)


def test_metrics_have_the_public_names_and_leave_out_what_is_not_known():
    metrics = RESULT.metrics()
    assert {key: value for key, value in metrics.items() if key.startswith("eval/gqa-harness/")} == {
        "eval/gqa-harness/accuracy": 61.5,
        "eval/gqa-harness/low": 55.0,
        "eval/gqa-harness/high": 68.0,
        "eval/gqa-harness/num_questions": 12.0,
        "eval/gqa-harness/cost/flops_ratio_eq8": 0.4,
        "eval/gqa-harness/cost/num_timed": 10.0,
    }
    assert metrics["cost/flops_ratio_eq8"] == 0.4
    assert "eval/gqa-harness/accuracy" not in replace(RESULT, scores={}, accuracy=math.nan).metrics()


@pytest.mark.parametrize(("uri", "said"), [(None, "not tracked: no MLflow address"), ("http://127.0.0.1:9", "")])
def test_a_tracker_that_is_missing_or_away_fails_nothing(tmp_path: Path, monkeypatch, capfd, uri, said):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path))
    file = tmp_path / "outcomes.parquet"
    file.write_bytes(b"rows")
    files = {"outcomes.parquet": str(file)}
    log_evaluation(TrackingConfig(uri=uri), None, "a on gqa", RESULT.to_json(), metrics=RESULT.metrics(), files=files)
    assert said in capfd.readouterr().err
    waiting = list((tmp_path / "spool").glob("*.jsonl")) if uri else []
    assert bool(uri) == bool(waiting), "what could not be sent waits to be sent"
