"""A study's config, and what a trial leaves behind, without training anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.storage import write_json
from dpn_platform.training.run_folder import TrainingOutcome


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """A sweep's config whose runs lie in the test's folder."""

    def make(
        train: dict[str, Any] | None = None, method: dict[str, Any] | None = None, **sweep: Any
    ) -> ExperimentConfig:
        return parse_config(
            {
                "name": "try",
                "method": method or {},
                "model": {"base": "tiny"},
                "storage": {"runs_uri": str(tmp_path / "runs")},
                "train": {"steps": 4, **(train or {})},
                "sweep": {"num_trials": 3, "controls": ["static_2x2", "dense"], **sweep},
            }
        )

    return make


@pytest.fixture
def make_outcome() -> Callable[..., TrainingOutcome]:
    """A training outcome for a run's folder."""

    def make(run_uri: str, **changes: Any) -> TrainingOutcome:
        values: dict[str, Any] = {
            "run_name": run_uri.rpartition("/")[2],
            "run_uri": run_uri,
            "checkpoint_uri": f"{run_uri}/step_00000004",
            "export_uri": f"{run_uri}/export",
            "status": "finished",
            "steps": 4,
            "metrics": {"step": 4, "train/loss_lm": 0.5},
        }
        return TrainingOutcome(**{**values, **changes})

    return make


@pytest.fixture
def write_evaluation() -> Callable[..., EvaluationResult]:
    """An evaluation result, written where the book looks for it."""

    def write(run_uri: str, accuracy: float = 0.9, flops_ratio: float = 0.5) -> EvaluationResult:
        result = EvaluationResult(
            key={"checkpoint_uri": f"{run_uri}/export"},
            benchmark="demo",
            n=100,
            accuracy=accuracy,
            accuracy_ci=(accuracy - 0.05, accuracy + 0.05),
            per_family={"colour": FamilyScore(n=100, accuracy=accuracy, ci=(0.8, 0.95), majority_rate=0.2)},
            flops_ratio={"eq8": flops_ratio - 0.1, "swiglu": flops_ratio},
            visual_tokens_mean=20.0,
            routes={"colour": {"2x2": 60, "1x1": 40}},
            outcomes_uri=f"{run_uri}/evaluation/outcomes.parquet",
            result_uri=f"{run_uri}/evaluation/result.json",
        )
        write_json(result.result_uri, result.to_json())
        return result

    return write
