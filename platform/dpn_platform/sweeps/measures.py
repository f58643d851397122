"""What a finished trial is worth by each objective a study may name; see `config.objectives`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from dpn_platform.config.objectives import ACCURACY, FLOPS_RATIO, constraint
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.training.metric_lines import DEVICE_HOURS
from dpn_platform.training.run_folder import TrainingOutcome

_COSTS = {"kv_mib": "kv_mib_mean", "prefill_ms": "prefill_ms", "decode_ms_per_token": "decode_ms_per_token"}


def measured(result: EvaluationResult, outcome: TrainingOutcome | None, convention: str) -> dict[str, float]:
    """Values by objective; what was not measured is left out. Accuracies of benchmarks in the unit papers print."""
    values = {
        ACCURACY: result.accuracy,
        FLOPS_RATIO: result.flops_ratio.get(convention, math.nan),
        "visual_tokens": result.visual_tokens_mean,
        **{f"{FLOPS_RATIO}/{name}": ratio for name, ratio in result.flops_ratio.items()},
        **{f"{ACCURACY}/{name}": score["value"] for name, score in result.scores.items()},
        **{name: result.cost.get(key) for name, key in _COSTS.items()},
        "train_hours": None if outcome is None else outcome.metrics.get(DEVICE_HOURS),
    }
    numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def is_feasible(values: Mapping[str, float], constraints: Sequence[str], dense: Mapping[str, float]) -> bool:
    """Whether every constraint is kept; what was not measured breaks none."""
    return not any(constraint(text).excess(values, dense) > 0 for text in constraints)
