"""One evaluation of a checkpoint: every benchmark of a config, one after another, and the accuracy they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from dpn_platform.benchmarks.files.question_sources import Wanted
from dpn_platform.benchmarks.outcomes import OUTCOMES, encode_table, read_table
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.evaluation import HELD_OUT, BenchmarkSettings
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.published.manifest import Manifest, load_manifest
from dpn_platform.evaluation import scoring
from dpn_platform.evaluation.answering.loading import find_checkpoint
from dpn_platform.evaluation.answering.variants import AS_IT_IS, Variant, variants_of
from dpn_platform.evaluation.axis import Axis, axis_of
from dpn_platform.evaluation.points import FamilyScore
from dpn_platform.evaluation.recorded_runs import RESULT
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
from dpn_platform.evaluation.runner.data_set import asks_own_data
from dpn_platform.evaluation.runner.plan import Request
from dpn_platform.storage import MissingObjectError, join_uri, open_uri, read_json, write_bytes, write_json

OnProgress = Callable[[int, int], None]


def evaluate(
    checkpoint_uri: str,
    config: ExperimentConfig,
    *,
    output_uri: str | None = None,
    main: Variant = AS_IT_IS,
    force: bool = False,
    in_this_process: bool = False,
    on_progress: OnProgress | None = None,
) -> EvaluationResult:
    """Answer the questions of `eval.benchmarks` and score the answers. Ray must be initialised.

    Of a published data set, the first question of a conversation is asked. A complete result of the same evaluation at
    `output_uri` is returned as it is.

    Args:
        checkpoint_uri: from_pretrained folder (path or URI).
        config: its `data` (which split), `eval`, `train.use_gpu` and `train.threads_per_worker` are used.
        output_uri: folder for outcomes and result, of several benchmarks one folder in it each; default
            `evaluation/<data set>-<split>`, or `evaluation/<axis>`, beside the checkpoint.
        main: what the checkpoint is evaluated as: with another method, or on one route.
        force: evaluate again in any case.
        in_this_process: with one actor to answer, answer here instead, where the model's imports are done already.
        on_progress: called with (samples done, samples in all) of each benchmark.

    Raises:
        DpnError: no such checkpoint, data set, split or benchmark, an empty split, or an accuracy axis without a score.
    """
    axis = axis_of(config.eval)
    checkpoint_uri = find_checkpoint(checkpoint_uri).uri
    names = [find_benchmark(entry.name).name for entry in config.eval.benchmarks]
    manifest = load_manifest(config.data.uri) if any(map(asks_own_data, config.eval.benchmarks)) else None
    output_uri = output_uri or default_output(checkpoint_uri, manifest, config, axis)
    key = evaluation_key(checkpoint_uri, config, manifest, main)
    found = None if force else read_result(output_uri, key)
    if found is not None:
        return found
    parts = {}
    for name, entry in zip(names, config.eval.benchmarks, strict=True):
        folder = output_uri if len(names) == 1 else join_uri(output_uri, name)
        request = request_of(checkpoint_uri, entry, folder, force=force, main=main)
        parts[name] = evaluate_benchmark(request, config, on_progress, in_this_process=in_this_process)
    if len(parts) == 1:
        (only,) = parts.values()
        axis.value(only.scores)
        result = replace(only, key=key)
    else:
        result = _together(axis, parts, key, open_uri(output_uri).uri.rstrip("/"))
    write_json(result.result_uri, result.to_json())
    return result


def request_of(checkpoint_uri: str, entry: BenchmarkSettings, output_uri: str | None, **more: Any) -> Request:
    """What an entry of `eval.benchmarks` asks for; `more` as in `Request`."""
    places = {name: getattr(entry, name) for name in ("questions", "annotations", "images", "layout", "split")}
    wanted = Wanted(data=entry.root, **places)
    options = entry.options or {}
    return Request(checkpoint_uri, entry.name, entry.variant, wanted, output_uri, options=options, **more)


def default_output(
    checkpoint_uri: str, manifest: Manifest | None, config: ExperimentConfig, axis: Axis | None = None
) -> str:
    """`evaluation/<data set>-<split>` beside the checkpoint's folder; of other benchmarks, `evaluation/<axis>`.

    A benchmark that asks the data set has its name before the data set's.
    """
    name = (axis or axis_of(config.eval)).name
    if manifest is not None and len(config.eval.benchmarks) == 1:
        data_set = f"{manifest.name}-{config.data.eval_split}"
        name = data_set if name == HELD_OUT else f"{name}-{data_set}"
    return f"{checkpoint_uri.rstrip('/').rpartition('/')[0]}/evaluation/{name}"


def evaluation_key(
    checkpoint_uri: str, config: ExperimentConfig, manifest: Manifest | None, main: Variant = AS_IT_IS
) -> dict[str, Any]:
    """What decides the outcome of an evaluation; `manifest` is of the experiment's data set, where that is asked."""
    key: dict[str, Any] = {"checkpoint_uri": checkpoint_uri, "limit": config.eval.limit}
    found = [find_benchmark(entry.name) for entry in config.eval.benchmarks]
    if manifest is not None:
        key |= {"data_fingerprint": manifest.fingerprint, "split": config.data.eval_split}
    if any(one.name == HELD_OUT for one in found):
        key["max_new_tokens"] = config.eval.max_new_tokens
    others = {
        one.name: load_manifest(entry.root or entry.questions or "").fingerprint
        for one, entry in zip(found, config.eval.benchmarks, strict=True)
        if one.asks_data_set and not asks_own_data(entry)
    }
    if others:
        key["other_data"] = others
    benchmarks = [entry.model_dump(mode="json", exclude_none=True) for entry in config.eval.benchmarks]
    if benchmarks != [{"name": HELD_OUT}]:
        key |= {"benchmarks": benchmarks, "accuracy": axis_of(config.eval).name}
    if config.eval.routes != "own":
        key["routes"] = config.eval.routes
    if (variants := variants_of(config.eval, main)) != (AS_IT_IS,):
        key["variants"] = [asdict(variant) for variant in variants]
    return key


def read_result(output_uri: str, key: dict[str, Any] | None = None) -> EvaluationResult | None:
    """The complete result in a folder; None when there is none, or (with `key`) one of another evaluation."""
    try:
        document = read_json(f"{output_uri}/{RESULT}")
    except MissingObjectError:
        return None
    if key is not None and document.get("key") != key:
        return None
    return EvaluationResult.from_json(document, f"{output_uri}/{RESULT}")


def _together(axis: Axis, parts: dict[str, EvaluationResult], key: dict[str, Any], output_uri: str) -> EvaluationResult:
    """One result of several: the axis's accuracy, and costs over all questions of the axis's benchmarks."""
    chosen = [parts[name] for name in axis.benchmarks]
    tables = {name: read_table(part.outcomes_uri) for name, part in parts.items()}
    write_bytes(f"{output_uri}/{OUTCOMES}", encode_table(row for rows in tables.values() for row in rows))
    of_axis = [row for name in axis.benchmarks for row in tables[name]]
    variants: list[dict[str, Any]] = []
    for place, one in enumerate(chosen[0].variants):
        rows = [row for row in of_axis if row["variant"] == one["name"]]
        scores = {name: part.variants[place]["scores"][name] for name, part in parts.items() if part.scores}
        accuracy, ci = axis.value(scores)
        costs = {"flops_ratio": scoring.flops_ratios(rows), "visual_tokens_mean": scoring.visual_tokens_mean(rows)}
        variants.append({**one, "scores": scores, "accuracy": accuracy, "accuracy_ci": ci, **costs})
    main, first = variants[0], chosen[0]
    by_benchmark = {
        name: FamilyScore(n=score["n"], accuracy=score["accuracy"], ci=score["accuracy_ci"])
        for name, score in main["scores"].items()
    }
    routes = {
        name: dict(sum((Counter(found) for found in part.routes.values()), Counter())) for name, part in parts.items()
    }
    alone = len(axis.benchmarks) == 1
    return EvaluationResult(
        key=key,
        benchmark=first.benchmark if alone else axis.name,
        n=sum(part.n for part in chosen),
        accuracy=main["accuracy"],
        accuracy_ci=main["accuracy_ci"],
        per_family=first.per_family if alone else by_benchmark,
        flops_ratio=main["flops_ratio"],
        visual_tokens_mean=main["visual_tokens_mean"],
        routes=first.routes if alone else routes,
        outcomes_uri=f"{output_uri}/{OUTCOMES}",
        result_uri=f"{output_uri}/{RESULT}",
        duration_s=round(sum(part.duration_s for part in parts.values()), 2),
        examples=tuple(example for part in chosen for example in part.examples),
        scores=main["scores"],
        cost=first.cost if alone else {},
        variants=tuple(variants),
        about={"axis": axis.name, "of": list(axis.benchmarks), "parts": {n: p.result_uri for n, p in parts.items()}},
    )
