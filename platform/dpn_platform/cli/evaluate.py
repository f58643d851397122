"""`dpn evaluate`: answers, scores, cost and routes of one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.benchmark_evaluation import BenchmarkOptions, run_benchmark, show_variants
from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, progress
from dpn_platform.cli.evaluation_tracking import log_evaluation
from dpn_platform.cli.scoring_options import named_values
from dpn_platform.cli.starting import services_for
from dpn_platform.config.errors import DpnError
from dpn_platform.config.evaluation import HELD_OUT
from dpn_platform.config.load import apply_overrides, load_config, parse_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.evaluation.result import EvaluationResult

#: published data sets by name; a URI is taken as it is
DATA_SETS = {"demo": "s3://dpn/datasets/demo"}

_Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, dotted (eval.batch_size=16).")]
_Benchmark = Annotated[
    str | None,
    typer.Option(
        help="vqav2, gqa, ...; detection, referring, regions, counting (of data.uri); demo, or the URI of a published "
        "data set. Default: config's."
    ),
]
_Data = Annotated[
    str | None, typer.Option(help="Root of the benchmark: LLaVA's eval/ folder, its parquet or published data set.")
]
_Questions = Annotated[str | None, typer.Option(help="Question file or parquet folder, where it is elsewhere.")]
_Annotations = Annotated[str | None, typer.Option(help="Gold answers, where they are elsewhere.")]
_Images = Annotated[str | None, typer.Option(help="Folder of the pictures, where it is elsewhere.")]
_Layout = Annotated[str | None, typer.Option(help="llava or parquet; default: what is there.")]
_Split = Annotated[str | None, typer.Option(help="Split of the layout; default: its first.")]
_Variant = Annotated[str | None, typer.Option(help="Convention: reference (default), harness, ...")]
_Option = Annotated[
    list[str] | None, typer.Option("--option", help="NAME=VALUE of the benchmark's scoring (repeatable).")
]
_Dtype = Annotated[str, typer.Option(help="auto (float32 on a CPU, float16 on a GPU), float32, float16, bfloat16.")]
_Budget = Annotated[list[float] | None, typer.Option(help="Also at this FLOPs ratio of the dial (repeatable).")]
_Routes = Annotated[str, typer.Option(help="all: also on every route that its method chooses from, walked together.")]
_Submission = Annotated[bool, typer.Option("--submission", help="Write the server's file instead of a score.")]
_Routing = Annotated[bool, typer.Option("--routing", help="Insist on routing statistics; others refuse here.")]
_Run = Annotated[str | None, typer.Option(help="MLflow run to log to, by name (study/trial); default: its own.")]
_Config = Annotated[Path | None, typer.Option(help="Experiment YAML; default: the defaults.")]
_Output = Annotated[str | None, typer.Option(help="Folder or URI; default: beside the checkpoint.")]
_Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code in the checkpoint's folder, where transformers has none.")
]
_Force = Annotated[bool, typer.Option("--force", help="Evaluate again what was evaluated before.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Adds `dpn evaluate`."""
    app.command("evaluate")(evaluate)


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="from_pretrained folder: a path or URI.")],
    overrides: _Overrides = None,
    benchmark: _Benchmark = None,
    data: _Data = None,
    questions: _Questions = None,
    annotations: _Annotations = None,
    images: _Images = None,
    layout: _Layout = None,
    split: _Split = None,
    variant: _Variant = None,
    option: _Option = None,
    dtype: _Dtype = "auto",
    budget: _Budget = None,
    routes: _Routes = "own",
    submission: _Submission = False,
    routing: _Routing = False,
    run: _Run = None,
    config: _Config = None,
    output: _Output = None,
    trust_remote_code: _Trust = False,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """Answer a benchmark's questions, or a data set's, with a checkpoint; score, count the cost, note the routes."""
    is_data_set = benchmark is None or benchmark in (*DATA_SETS, HELD_OUT) or "/" in benchmark
    of_options = [f"eval.budgets={budget}"] if budget else []
    of_options += [f"eval.routes={routes}"] if routes != "own" else []
    of_options += _of_data_set(benchmark) if benchmark and is_data_set else []
    experiment = _experiment(config, [*(overrides or []), *of_options])
    if benchmark is not None and not is_data_set:
        places = (data, questions, annotations, images, layout, split, variant, dtype)
        flags = (submission, routing, force, trust_remote_code)
        options = BenchmarkOptions(benchmark, *places, *flags, named_values(option))
        run_benchmark(checkpoint, options, experiment, output=output, run=run, as_json=as_json)
        return
    if trust_remote_code:
        raise DpnError(
            "--trust-remote-code needs --benchmark NAME: a data set's questions are answered by our code alone"
        )
    roots = (place for one in experiment.eval.benchmarks for place in (one.root, one.questions, one.annotations))
    with clean_stdout(), services_for(checkpoint, experiment.data.uri, output, *roots):
        result = _evaluate_data_set(checkpoint, experiment, output, force)
        document = {key: value for key, value in result.to_json().items() if key != "examples"}
        name, files = f"{checkpoint} on {result.benchmark}", {"outcomes.parquet": result.outcomes_uri}
        log_evaluation(experiment.tracking, run, name, document, metrics=result.metrics(), files=files)
    if as_json:
        print_json(document)
        return
    _show(result)


def _of_data_set(name: str) -> list[str]:
    """What `--benchmark` says of the configuration where it names a data set."""
    asked = [f"eval.benchmarks=[{HELD_OUT}]"]
    return asked if name == HELD_OUT else [*asked, f"data.uri={DATA_SETS.get(name, name)}"]


def _evaluate_data_set(
    checkpoint: str, experiment: ExperimentConfig, output: str | None, force: bool
) -> EvaluationResult:
    from dpn_platform.evaluation.run import evaluate as run_evaluation

    if output is None and "://" not in checkpoint:
        output = str(Path("outputs") / "evaluations" / Path(checkpoint).resolve().name)
    _note_unknown_words(checkpoint, experiment)
    with progress(f"evaluating {checkpoint}") as advance:
        return run_evaluation(
            checkpoint,
            experiment,
            output_uri=output,
            force=force,
            on_progress=lambda done, total: advance(done, total=total),
        )


def _note_unknown_words(checkpoint: str, experiment: ExperimentConfig) -> None:
    """What the checkpoint's tokenizer does not know of the data set that is asked, if there is something."""
    from dpn_platform.data.ingest.unknown_words import unknown_line
    from dpn_platform.data.published.manifest import load_manifest
    from dpn_platform.evaluation.runner.data_set import asks_own_data
    from dpn_platform.storage import exists, join_uri

    uri = join_uri(checkpoint, "tokenizer.json")
    if not any(map(asks_own_data, experiment.eval.benchmarks)):
        return
    if exists(uri) and (told := unknown_line(load_manifest(experiment.data.uri), experiment.data.eval_split, uri)):
        note(told)


def _experiment(config: Path | None, overrides: list[str]) -> ExperimentConfig:
    if config is not None:
        return load_config(config, overrides)
    return parse_config(apply_overrides({"name": "evaluate"}, overrides), "evaluate")


def _show(result: EvaluationResult) -> None:
    rows: list[tuple[Any, ...]] = [
        (family, score.n, _percent(score.accuracy), _interval(score.ci), _percent(score.majority_rate or 0.0))
        for family, score in result.per_family.items()
    ]
    rows.append(("all", result.n, _percent(result.accuracy), _interval(result.accuracy_ci), ""))
    split = f", {result.key['split']}" if "split" in result.key else ""
    title = f"{result.key['checkpoint_uri']} on {result.benchmark}{split} (percent, 95% intervals)"
    print_table(title, ("family", "questions", "accuracy", "interval", "guessing"), rows)
    note(
        f"FLOPs ratio: swiglu {result.flops_ratio['swiglu']:.3f}, eq8 {result.flops_ratio['eq8']:.3f}; "
        f"visual tokens per layer: {result.visual_tokens_mean:.1f}"
    )
    show_variants(result)
    note(f"outcomes: {result.outcomes_uri}")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _interval(ci: tuple[float, float]) -> str:
    return f"{_percent(ci[0])} to {_percent(ci[1])}"
