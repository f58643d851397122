"""Studies written into a store as a driver leaves them, none of them run: ledger, results, outcome tables, weights."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.benchmarks.statistics.wilson import wilson_interval
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.storage import together, write_bytes, write_json
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.trials import Trial, method_name, run_name, searched_trial, shown_params

FAMILIES = ("colour", "counting", "reading")
#: what may be left of a study: a trial that failed, and one that waits
OPEN = [searched_trial(8, "dpn", {}).become("failed", reason="out of [memory]"), searched_trial(9, "dpn", {})]


@dataclass(frozen=True)
class Made:
    """What one finished trial is to look like; `right` says which questions it answers."""

    trial: Trial
    cost: float
    right: Sequence[bool] = field(repr=False)


def study_config(runs_uri: str, name: str = "try", **changes: Any) -> ExperimentConfig:
    """A sweep's config whose runs lie there; `changes` by section."""
    values: dict[str, Any] = {
        "name": name,
        "model": {"base": "tiny"},
        "storage": {"runs_uri": runs_uri},
        "tracking": {"backend": "off"},
        "train": {"steps": 4},
        "sweep": {"num_trials": 3, "controls": ["dense", "static_2x2"]},
    }
    return parse_config({**values, **changes})


def small_trials(seed: int = 0, n: int = 200, gain: float = 0.0) -> list[Made]:
    """Dense, a pyramid, and three trials of the search, whose accuracy grows with their cost.

    Args:
        seed: of the answers; questions are equally hard for all.
        n: questions.
        gain: share of the questions that searched trials answer in addition.
    """
    draw = random.Random(seed)
    hard = [draw.random() for _ in range(n)]

    def right(skill: float) -> list[bool]:
        return [skill + draw.uniform(-0.02, 0.02) > one for one in hard]

    dense = Trial("dense", {"method.name": "dense"}, is_control=True)
    static = Trial("static_2x2", {"method.name": "static", "method.site_kernels": ["2x2"]}, is_control=True)
    found = [Made(dense, 1.0, right(0.9)), Made(static, 0.4, right(0.6))]
    for number, cost in enumerate((0.45, 0.6, 0.8)):
        params = {"method.routing_loss.weight": round(0.1 * (number + 1), 3)}
        skill = 0.62 + 0.3 * (cost - 0.4) + gain
        found.append(Made(searched_trial(number, "dpn", params), cost, right(skill)))
    return found


def write_study(
    runs_uri: str,
    name: str,
    made: Sequence[Made] = (),
    *,
    unfinished: Sequence[Trial] = (),
    with_points: bool = True,
    with_tables: bool = True,
    config: Mapping[str, Any] | None = None,
) -> Ledger:
    """A study with these trials, finished unless there are unfinished ones.

    Args:
        runs_uri: of the store.
        name: of the study.
        made: its finished trials.
        unfinished: others, as they are.
        with_points: as ledgers of this version; without, the points come from the evaluations.
        with_tables: outcome tables, metric lines and a checkpoint too.
        config: sections that differ from `study_config`.
    """
    ledger = Ledger(runs_uri, name)
    ledger.create(study_config(ledger.runs_uri, **(config or {})))
    together(lambda one: _write_trial(ledger, one, with_points, with_tables), made)
    together(ledger.put, unfinished)
    if not unfinished:
        ledger.finish(12.0)
    return ledger


def _write_trial(ledger: Ledger, made: Made, with_points: bool, with_tables: bool) -> None:
    trial, run_uri = made.trial, f"{ledger.runs_uri}/{run_name(ledger.study, made.trial)}"
    result = result_of(made, run_uri)
    values = {"accuracy": result.accuracy, "flops_ratio": made.cost}
    done = trial.become("finished", values=values, evaluation_uri=f"{run_uri}/evaluation", run_id=f"run-{trial.key}")
    if with_points:
        point = result.to_point(
            trial.key,
            method_name(trial),
            params=shown_params(trial),
            is_control=trial.is_control,
            run_id=done.run_id,
            checkpoint_uri=f"{run_uri}/export",
        )
        done = done.become("finished", point=point.to_json())
    if not with_points or with_tables:
        write_json(result.result_uri, result.to_json())
    if with_tables:
        write_bytes(result.outcomes_uri, encode_table(rows_of(made)))
        write_bytes(f"{run_uri}/metrics.jsonl", b'{"step": 4, "train/loss_lm": 0.5}\n')
        write_bytes(f"{run_uri}/evaluation/shards/0.jsonl", b"{}\n")
        write_bytes(f"{run_uri}/export/model.safetensors", trial.key.encode())
        write_bytes(f"{run_uri}/step_00000004/engine/weights", b"w")
        outcome = {"run_name": run_uri.rpartition("/")[2], "run_uri": run_uri, "status": "finished", "steps": 4}
        places = {"checkpoint_uri": f"{run_uri}/step_00000004", "export_uri": f"{run_uri}/export"}
        write_bytes(f"{run_uri}/outcome.json", json.dumps(outcome | places).encode())
    ledger.put(done)


def result_of(made: Made, run_uri: str) -> EvaluationResult:
    """What an evaluation of it found."""
    n = len(made.right)
    share = sum(made.right) / n
    ci = wilson_interval(sum(made.right), n)
    families = {name: FamilyScore(n=n // 3, accuracy=share, ci=ci, majority_rate=0.2) for name in FAMILIES}
    return EvaluationResult(
        key={"checkpoint_uri": f"{run_uri}/export"},
        benchmark="demo",
        n=n,
        accuracy=share,
        accuracy_ci=ci,
        per_family=families,
        flops_ratio={"eq8": made.cost, "swiglu": made.cost, "executed": made.cost},
        visual_tokens_mean=64 * made.cost,
        routes={name: {"2x2,1x1": n // 6, "1x1,1x1": n // 6} for name in FAMILIES},
        outcomes_uri=f"{run_uri}/evaluation/outcomes.parquet",
        result_uri=f"{run_uri}/evaluation/result.json",
    )


def rows_of(made: Made) -> list[dict[str, Any]]:
    """Its outcome table."""
    return [
        {
            "benchmark": "heldout",
            "variant": "",
            "place": place,
            "question_id": str(place),
            "family": FAMILIES[place % 3],
            "in_headline": True,
            "score": float(is_right),
            "parsed": "yes",
            "gold": "yes",
            "has_image": True,
            "image_sha": str(place // 2),
            "route": "",
            "swiglu_macs": round(1000 * made.cost),
            "swiglu_dense": 1000,
        }
        for place, is_right in enumerate(made.right)
    ]
