"""One evaluation on one benchmark: answer what is not answered yet, score, write the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dpn_platform.benchmarks.contract import UNITS
from dpn_platform.benchmarks.outcomes import Row
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.evaluation import scoring
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant
from dpn_platform.evaluation.recorded_runs import RESULT
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.runner.actor import AnswererSettings
from dpn_platform.evaluation.runner.costs import cost_of
from dpn_platform.evaluation.runner.job import answer_shards
from dpn_platform.evaluation.runner.lines import Line, ShardFiles
from dpn_platform.evaluation.runner.outcome import check_annotations, label_of, write_outcome
from dpn_platform.evaluation.runner.plan import Plan, Request, plan
from dpn_platform.evaluation.runner.shards import Shard
from dpn_platform.storage import write_json

OnProgress = Callable[[int, int], None]


def evaluate_benchmark(
    request: Request,
    config: ExperimentConfig,
    on_progress: OnProgress | None = None,
    *,
    in_this_process: bool = False,
) -> EvaluationResult:
    """Answer a benchmark's questions, score the answers, count the cost. Ray must be initialised.

    An interrupted run goes on: shards that are answered are not answered again.

    Args:
        request: what to evaluate.
        config: its `eval` (batch size, actors, limit, seed, variants), `train` (use_gpu, CPUs and threads of a worker)
            and, for the held-out split, `data`.
        on_progress: called with (questions answered, questions in all).
        in_this_process: with one actor to answer, answer here instead, where the model's imports are done already.

    Raises:
        DpnError: unknown benchmark or variant, files that are missing or do not fit each other, no checkpoint, or one
            that cannot do what is asked.
    """
    started = time.monotonic()
    work = plan(request, config)
    files = ShardFiles(work.run.output_uri)
    done = set() if request.force else files.done()
    waiting = [shard for shard in work.shards if shard.name not in done]
    if waiting:
        check_annotations(work.run, work.questions)
        _answer(waiting, work, config, on_progress, in_this_process)
    lines, times = files.read(work.shards)
    result = replace(_result(work, lines, times), duration_s=round(time.monotonic() - started, 2))
    settings = {"limit": config.eval.limit, "num_actors": config.eval.num_actors}
    shards = {"all": len(work.shards), "answered_now": len(waiting)}
    result = replace(result, about={**result.about, **settings, "shards": shards})
    write_json(result.result_uri, result.to_json())  # last: its presence says that the rest is there
    return result


def _result(work: Plan, lines: Sequence[Line], times: Sequence[Mapping[str, Any]]) -> EvaluationResult:
    """Scores and costs of all variants; writes every file but result.json."""
    found = write_outcome(work.run, lines, work.questions, work.variants, times)
    rows, reports = found.pop("rows"), found.pop("reports")
    own, main = rows[AS_IT_IS.name], reports.get(AS_IT_IS.name, {})
    label = label_of(work.run, main.get("scores"))
    each = [
        _of_variant(work, variant, rows[variant.name], reports.get(variant.name), label, lines, times)
        for variant in work.variants
    ]
    return EvaluationResult(
        key=work.key,
        benchmark=label,
        n=int(main.get("n", len(work.questions))),
        accuracy=each[0]["accuracy"],
        accuracy_ci=each[0]["accuracy_ci"],
        per_family=scoring.score_families([row for row in own if row["score"] is not None]),
        flops_ratio=each[0]["flops_ratio"],
        visual_tokens_mean=each[0]["visual_tokens_mean"],
        routes=scoring.count_routes(own),
        outcomes_uri=found["outcomes_uri"],
        result_uri=f"{work.run.output_uri}/{RESULT}",
        examples=tuple(found["examples"]),
        scores=each[0]["scores"],
        cost=each[0]["cost"],
        variants=tuple(each),
        about=_about(work, main, found) | {"label": label},
    )


def _about(work: Plan, report: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """How it was done and where the files are: the part of `EvaluationResult.about` that the plan knows."""
    layout, sources = work.run.sources.layout, work.run.sources
    return {
        "variant": work.run.variant,
        "layout": layout.name,
        "split": layout.split,
        "method": work.checkpoint.method or "transformers",
        "trust_remote_code": work.key.get("trust_remote_code", False),
        "questions": sources.questions,
        "annotations": sources.annotations,
        "headline": report.get("headline"),
        "scores": report.get("scores"),
        "provenance": manifest_of_versions(),
        **{name: value for name, value in found.items() if name not in ("examples", "outcomes_uri")},
    }


def _of_variant(
    work: Plan,
    variant: Variant,
    rows: Sequence[Row],
    report: Mapping[str, Any] | None,
    label: str,
    lines: Sequence[Line],
    times: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Score and cost of one variant, as `EvaluationResult.variants` has them."""
    cost = cost_of(
        [line for line in lines if line["metadata"].get("variant", "") == variant.name],
        [one for one in times if one["variant"] == variant.name],
    )
    found: dict[str, Any] = {
        "name": variant.name,
        "budget": variant.budget,
        "method": None if variant.method is None else dict(variant.method),
        "accuracy": math.nan,
        "accuracy_ci": (math.nan, math.nan),
        "scores": {},
        "flops_ratio": scoring.flops_ratios(rows),
        "visual_tokens_mean": scoring.visual_tokens_mean(rows),
        "cost": cost,
    }
    if report is None:
        return found
    headline = report["headline"]
    scale = UNITS[headline["unit"]]
    low, high = headline["ci95"]
    found |= {"accuracy": headline["value"] / scale, "accuracy_ci": (low / scale, high / scale)}
    score = {
        "label": label,
        "metric": headline["name"],
        "value": headline["value"],
        "ci": [low, high],
        "n": report["n"],
        "unit": headline["unit"],
        "accuracy": found["accuracy"],
        "accuracy_ci": list(found["accuracy_ci"]),
        "cost": {name: value for name, value in cost.items() if isinstance(value, int | float)},
    }
    return found | {"scores": {work.run.benchmark.name: score}}


def _answer(
    waiting: Sequence[Shard],
    work: Plan,
    config: ExperimentConfig,
    on_progress: OnProgress | None,
    in_this_process: bool,
) -> None:
    total = len(work.questions)
    before = total - sum(len(shard.questions) for shard in waiting)
    settings = AnswererSettings(
        checkpoint=work.checkpoint,
        output_uri=work.run.output_uri,
        batch_size=config.eval.batch_size,
        dtype=work.key["dtype"],
        num_threads=config.train.threads_per_worker,
        use_gpu=config.train.use_gpu,
        trust_remote_code=work.key.get("trust_remote_code", False),
        variants=work.variants,
    )
    answer_shards(
        waiting,
        settings,
        num_actors=config.eval.num_actors,
        cpus_per_actor=config.train.cpus_per_worker,
        in_this_process=in_this_process and config.eval.num_actors == 1,
        on_progress=None if on_progress is None else lambda count: on_progress(before + count, total),
    )
