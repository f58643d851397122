"""`dpn evaluate`: answers, scores, cost and routes of one checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, progress
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config, parse_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.evaluation.result import EvaluationResult

#: benchmark -> published data set; a URI is taken as it is
BENCHMARKS = {"demo": "s3://dpn/datasets/demo"}


def register(app: typer.Typer) -> None:
    """Adds `dpn evaluate`."""
    app.command("evaluate")(evaluate)


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="from_pretrained folder: a path or URI.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted (eval.limit=200).")] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="demo, or the URI of a published data set. Default: the config's data set.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Experiment YAML; default: the defaults.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder or URI; default: beside the checkpoint.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Evaluate again what was evaluated before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Answer the held-out questions with a checkpoint; score the answers, count the cost, note the routes."""
    experiment = _experiment(config, [*(overrides or []), *_of_benchmark(benchmark)])
    with clean_stdout():
        from dpn_platform.services import connect

        with progress("connecting to the services"):
            connect(start=True)  # before the first import of ray, which reads the environment
            from dpn_platform.services.ray_client import init_ray

            init_ray()
        from dpn_platform.evaluation.run import evaluate as run_evaluation

        if output is None and "://" not in checkpoint:
            output = str(Path("outputs") / "evaluations" / Path(checkpoint).resolve().name)
        with progress(f"evaluating {checkpoint}") as advance:
            result = run_evaluation(
                checkpoint,
                experiment,
                output_uri=output,
                force=force,
                on_progress=lambda done, total: advance(done, total=total),
            )
    if as_json:
        print_json({key: value for key, value in result.to_json().items() if key != "examples"})
        return
    _show(result)


def _experiment(config: Path | None, overrides: list[str]) -> ExperimentConfig:
    if config is not None:
        return load_config(config, overrides)
    from dpn_platform.config.load import apply_overrides

    return parse_config(apply_overrides({"name": "evaluate"}, overrides), "evaluate")


def _of_benchmark(benchmark: str | None) -> list[str]:
    if benchmark is None:
        return []
    if benchmark not in BENCHMARKS and "/" not in benchmark:
        raise DpnError(f"benchmark '{benchmark}': allowed are {', '.join(BENCHMARKS)}, or the URI of a data set")
    return [f"data.uri={BENCHMARKS.get(benchmark, benchmark)}"]


def _show(result: EvaluationResult) -> None:
    rows: list[tuple[Any, ...]] = [
        (family, score.n, _percent(score.accuracy), _interval(score.ci), _percent(score.majority_rate or 0.0))
        for family, score in result.per_family.items()
    ]
    rows.append(("all", result.n, _percent(result.accuracy), _interval(result.accuracy_ci), ""))
    title = f"{result.key['checkpoint_uri']} on {result.benchmark}, {result.key['split']} (percent, 95% intervals)"
    print_table(title, ("family", "questions", "accuracy", "interval", "guessing"), rows)
    note(
        f"FLOPs ratio: swiglu {result.flops_ratio_swiglu:.3f}, eq8 {result.flops_ratio_eq8:.3f}; "
        f"visual tokens per layer: {result.visual_tokens_mean:.1f}"
    )
    note(f"predictions: {result.predictions_uri}")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _interval(ci: tuple[float, float]) -> str:
    return f"{_percent(ci[0])} to {_percent(ci[1])}"
