"""`dpn evaluate --benchmark NAME` for the benchmarks of the field: the job, its table, its routing files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpn_model.methods.registry import find_method, method_names
from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, progress
from dpn_platform.cli.evaluation_tracking import log_evaluation
from dpn_platform.cli.starting import services_for
from dpn_platform.config.errors import DpnError
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.evaluation.result import EvaluationResult
    from dpn_platform.evaluation.runner.plan import Request

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
    trust_remote_code: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def asks_own_data(self) -> bool:
        """Whether it asks the experiment's own data set."""
        from dpn_platform.benchmarks.registry import find_benchmark

        return find_benchmark(self.benchmark).asks_data_set and self.data is None and self.questions is None

    def request(self, checkpoint: str, output: str | None) -> Request:
        """As the runner takes it."""
        from dpn_platform.benchmarks.files.question_sources import Wanted
        from dpn_platform.evaluation.runner.plan import Request

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
            trust_remote_code=self.trust_remote_code,
            options=self.options,
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
    read = [options.data, options.questions, options.annotations, options.images]
    read += [experiment.data.uri] if options.asks_own_data else []
    with clean_stdout(), services_for(checkpoint, output, *read):
        from dpn_platform.evaluation.answering.loading import find_checkpoint
        from dpn_platform.evaluation.runner.benchmark import evaluate_benchmark
        from dpn_platform.evaluation.runner.plan import default_output

        request = options.request(checkpoint, output)
        if output is None and "://" not in checkpoint:
            folder = Path("outputs") / "evaluations" / find_checkpoint(checkpoint).name
            request = replace(request, output_uri=str(folder / default_output(request, experiment)))
        with progress(f"evaluating {checkpoint} on {options.benchmark}") as advance:
            result = evaluate_benchmark(request, experiment, lambda done, total: advance(done, total=total))
        files = _routing_files(result)
        document = {name: value for name, value in result.to_json().items() if name != "examples"}
        # `cost/...` is of a run's own evaluation, which this one may be logged beside.
        metrics = {key: value for key, value in result.metrics().items() if not key.startswith("cost/")}
        name, kept = f"{checkpoint} on {result.benchmark}", files | {"outcomes.parquet": result.outcomes_uri}
        log_evaluation(experiment.tracking, run, name, document, metrics=metrics, files=kept)
    if as_json:
        print_json(document | {"routing": list(files.values())})
    else:
        _show(result, files)


def _check_names(options: BenchmarkOptions) -> None:
    from dpn_platform.benchmarks.registry import check_options, check_variant, find_benchmark

    try:
        benchmark = find_benchmark(options.benchmark)
    except DpnError as error:
        raise DpnError(f"{error}; demo; or the URI of a published data set") from None
    check_variant(benchmark, options.variant)
    check_options(benchmark, options.options)


def _routing_files(result: EvaluationResult) -> dict[str, str]:
    """Name -> URI of what `dpn report routing` writes; nothing for a model that chooses no routes."""
    method = result.about["method"]
    if method not in method_names() or not find_method(method).has_routes:
        return {}
    from dpn_platform.cli.routing import routing_contents
    from dpn_platform.evaluation.recorded_runs import read_recorded
    from dpn_platform.storage import write_bytes

    folder = result.result_uri.rpartition("/")[0]
    _, contents = routing_contents([read_recorded(folder)], seed=0)
    for name, data in contents.items():
        write_bytes(f"{folder}/{name}", data)
    return {name: f"{folder}/{name}" for name in contents}


def _show(result: EvaluationResult, files: Mapping[str, str]) -> None:
    about, costs = result.about, result.cost
    headline = about["headline"]
    title = f"{result.key['checkpoint_uri']} on {result.benchmark} ({about['variant']}), n = {result.n}"
    facts: dict[str, object] = {}
    if headline is not None:
        low, high = headline["ci95"]
        facts[f"headline: {headline['name']}"] = f"{headline['value']:.2f}   95% interval {low:.2f} to {high:.2f}"
        # A headline may be one of several numbers that papers print of a benchmark.
        others = {name: value for name, value in about["scores"].items() if name != headline["name"]}
        facts |= {name: f"{value:.2f}" for name, value in others.items() if isinstance(value, float)}
    facts |= {words: f"{costs[name]:.4g}" for name, words in _COSTS.items() if costs[name] is not None}
    print_facts(title, facts)
    show_variants(result)
    if about["caution"]:
        note(about["caution"])
    named = {
        "answers": about["answers_uri"],
        "for the server": about.get("submission_uri"),
        "routes": files.get("routing.png"),
    }
    for what, uri in named.items():
        if uri:
            note(f"{what}: {uri}")


def show_variants(result: EvaluationResult) -> None:
    """Accuracy and cost of every variant, where the checkpoint was evaluated as more than itself."""
    if len(result.variants) < 2:
        return
    rows = [
        (
            one["name"] or "as it is",
            f"{100 * one['accuracy']:.1f}",
            " to ".join(f"{100 * bound:.1f}" for bound in one["accuracy_ci"]),
            *(f"{one['flops_ratio'][name]:.3f}" if name in one["flops_ratio"] else "" for name in ("swiglu", "eq8")),
        )
        for one in result.variants
    ]
    print_table("Variants (percent)", ("variant", "accuracy", "95% interval", "FLOPs swiglu", "FLOPs eq8"), rows)
