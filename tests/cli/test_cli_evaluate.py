"""`dpn evaluate`: what a tracker is given, and that one that is away or missing never fails an evaluation."""

from pathlib import Path

import pytest

from dpn_platform.cli.benchmark_evaluation import metrics_of
from dpn_platform.cli.evaluation_tracking import log_evaluation
from dpn_platform.config.schema import TrackingConfig

RESULT = {
    "benchmark": "gqa",
    "label": "gqa-harness",
    "n": 12,
    "headline": {"name": "accuracy", "value": 61.5, "ci95": [55.0, 68.0]},
    "cost": {"flops_ratio_eq8": 0.4, "kv_mib_mean": None, "routes": {"2x2": 3}, "num_timed": 10},
}


def test_metrics_have_the_public_names_and_leave_out_what_is_not_known():
    assert metrics_of(RESULT) == {
        "eval/gqa-harness/accuracy": 61.5,
        "eval/gqa-harness/low": 55.0,
        "eval/gqa-harness/high": 68.0,
        "eval/gqa-harness/num_questions": 12.0,
        "eval/gqa-harness/cost/flops_ratio_eq8": 0.4,
        "eval/gqa-harness/cost/num_timed": 10.0,
    }
    assert "eval/gqa-harness/accuracy" not in metrics_of({**RESULT, "headline": None})


@pytest.mark.parametrize(
    ("uri", "said"), [(None, "not logged to MLflow: no MLflow address"), ("http://127.0.0.1:9", "")]
)
def test_a_tracker_that_is_missing_or_away_fails_nothing(tmp_path: Path, monkeypatch, capfd, uri, said):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path))
    file = tmp_path / "predictions.parquet"
    file.write_bytes(b"rows")
    files = {"predictions.parquet": str(file)}
    log_evaluation(TrackingConfig(uri=uri), None, "a on gqa", RESULT, metrics=metrics_of(RESULT), files=files)
    assert said in capfd.readouterr().err
    waiting = list((tmp_path / "spool").glob("*.jsonl")) if uri else []
    assert bool(uri) == bool(waiting), "what could not be sent waits to be sent"
