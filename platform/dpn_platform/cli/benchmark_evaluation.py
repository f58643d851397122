"""`dpn evaluate --benchmark NAME` for the benchmarks of the field: the job, its table, its routing files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, progress
from dpn_platform.cli.evaluation_tracking import log_evaluation
from dpn_platform.cli.starting import services_for
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.evaluation.runner.benchmark import Request

_COSTS = {
    "flops_ratio_eq8": "FLOPs ratio, eq. 8 (visual tokens only)",
    "flops_ratio_swiglu": "FLOPs ratio, swiglu (with text)",
    "visual_tokens_mean": "visual tokens, mean over layers",
    "kv_mib_mean": "KV cache of a prompt, MiB",
    "vision_ms": "vision tower, ms per question",
    "prefill_ms": "prefill, ms per question",
    "decode_ms_per_token": "decoding, ms per further token",
    "samples_per_second": "questions per second and worker, model alone",
    "samples_per_second_with_host": "the same with pictures, tokenising and writing",
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the command line says about the benchmark."""

    benchmark: str
    data: str | None
    questions: str | None
    annotations: str | None
    images: str | None
    layout: str | None
    split: str | None
    variant: str | None
    dtype: str
    for_server: bool = False
    needs_routing: bool = False
    force: bool = False

    def with_flags(self, **flags: bool) -> BenchmarkOptions:
        """The options with their flags."""
        return replace(self, **flags)  # type: ignore[arg-type]

    def request(self, checkpoint: str, output: str | None) -> Request:
        """As the runner takes it."""
        from dpn_platform.benchmarks.files.question_sources import Wanted
        from dpn_platform.evaluation.runner.benchmark import Request

        places = {name: getattr(self, name) for name in ("data", "questions", "annotations", "images")}
        wanted = Wanted(**places, layout=self.layout, split=self.split, for_server=self.for_server)
        return Request(
            checkpoint_uri=checkpoint,
            benchmark=self.benchmark,
            variant=self.variant,
            wanted=wanted,
            output_uri=output,
            dtype=self.dtype,
            needs_routing=self.needs_routing,
            force=self.force,
        )


def run_benchmark(
    checkpoint: str,
    options: BenchmarkOptions,
    experiment: ExperimentConfig,
    *,
    output: str | None,
    run: str | None,
    as_json: bool,
) -> None:
    """Evaluate, write routing files where there are routers, log to the tracker, print.

    Raises:
        DpnError: as `evaluate_benchmark`.
    """
    _check_names(options)  # a slip costs no start of services
    read = (options.data, options.questions, options.annotations, options.images)
    with clean_stdout(), services_for(checkpoint, output, *read):
        from dpn_platform.evaluation.answering.loading import find_checkpoint
        from dpn_platform.evaluation.runner.benchmark import default_output, evaluate_benchmark

        request = options.request(checkpoint, output)
        if output is None and "://" not in checkpoint:
            folder = Path("outputs") / "evaluations" / find_checkpoint(checkpoint).name
            request = replace(request, output_uri=str(folder / default_output(request)))
        with progress(f"evaluating {checkpoint} on {options.benchmark}") as advance:
            result = evaluate_benchmark(request, experiment, lambda done, total: advance(done, total=total))
        files = _routing_files(result)
        document = {name: value for name, value in result.items() if name != "examples"}
        name, kept = f"{checkpoint} on {result['label']}", files | {"predictions.parquet": result["predictions_uri"]}
        log_evaluation(experiment.tracking, run, name, document, metrics=metrics_of(result), files=kept)
    if as_json:
        print_json(document | {"routing": list(files.values())})
    else:
        _show(result, files)


def _check_names(options: BenchmarkOptions) -> None:
    from dpn_platform.benchmarks.registry import check_variant, find_benchmark

    try:
        benchmark = find_benchmark(options.benchmark)
    except DpnError as error:
        raise DpnError(f"{error}; demo; or the URI of a published data set") from None
    check_variant(benchmark, options.variant)


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The metrics a tracker is given: `eval/<label>/...`, costs below it, for every benchmark has its own."""
    prefix = f"eval/{result['label']}"
    costs = {name: value for name, value in result["cost"].items() if isinstance(value, int | float)}
    metrics = {f"{prefix}/cost/{name}": float(value) for name, value in costs.items()}
    metrics[f"{prefix}/num_questions"] = float(result["n"])
    headline = result["headline"]
    if headline is not None:
        low, high = headline["ci95"]
        metrics |= {f"{prefix}/{headline['name']}": headline["value"], f"{prefix}/low": low, f"{prefix}/high": high}
    return metrics


def _routing_files(result: Mapping[str, Any]) -> dict[str, str]:
    """Name -> URI of what `dpn report routing` writes; nothing for a model that chooses no routes."""
    if result["method"] != "dpn":
        return {}
    from dpn_platform.cli.routing import routing_contents
    from dpn_platform.evaluation.recorded_runs import read_recorded
    from dpn_platform.storage import write_bytes

    folder = result["result_uri"].rpartition("/")[0]
    _, contents = routing_contents([read_recorded(folder)], seed=0)
    for name, data in contents.items():
        write_bytes(f"{folder}/{name}", data)
    return {name: f"{folder}/{name}" for name in contents}


def _show(result: Mapping[str, Any], files: Mapping[str, str]) -> None:
    headline, costs = result["headline"], result["cost"]
    title = f"{result['key']['checkpoint_uri']} on {result['label']} ({result['variant']}), n = {result['n']}"
    facts: dict[str, object] = {}
    if headline is not None:
        low, high = headline["ci95"]
        facts[f"headline: {headline['name']}"] = f"{headline['value']:.2f}   95% interval {low:.2f} to {high:.2f}"
    facts |= {words: f"{costs[name]:.4g}" for name, words in _COSTS.items() if costs[name] is not None}
    print_facts(title, facts)
    if result["caution"]:
        note(result["caution"])
    named = {
        "answers": result["answers_uri"],
        "for the server": result.get("submission_uri"),
        "routes": files.get("routing.png"),
    }
    for what, uri in named.items():
        if uri:
            note(f"{what}: {uri}")
