"""`dpn train`: one training run, tracked; the same command continues what was interrupted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, progress
from dpn_platform.cli.starting import services_of
from dpn_platform.config.load import fingerprint, flatten, load_config
from dpn_platform.config.schema import ExperimentConfig

EXIT_STOPPED = 1

if TYPE_CHECKING:
    from dpn_platform.tracking import Tracker
    from dpn_platform.training.run_folder import TrainingOutcome


def register(app: typer.Typer) -> None:
    """Adds `dpn train`."""
    app.command("train")(train)


def train(
    config: Annotated[Path, typer.Argument(help="Experiment YAML.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the run; a run of that name continues. Default: config name-fingerprint.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Copy the from_pretrained folder here in the end.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Train one model. Interrupted or killed, the same command continues from the latest checkpoint.

    A run that one of its guards (train.guards) has stopped ends with exit code 1.
    """
    experiment = load_config(config, overrides or [])
    with clean_stdout(), services_of(experiment):
        from dpn_platform.tracking import open_tracker
        from dpn_platform.training.run_folder import run_fingerprint

        run_name = name or f"{experiment.name}-{run_fingerprint(experiment)[:8]}"
        tracker = open_tracker(experiment.tracking, experiment.storage.runs_uri)
        outcome, run_id = _train_tracked(experiment, run_name, tracker)
        if export is not None:
            from dpn_platform.storage import download_folder

            download_folder(outcome.export_uri, str(export))
    document = {
        **asdict(outcome),
        "fingerprint": fingerprint(experiment),
        "mlflow_run": tracker.run_url(run_id) or None,
        "exported_to": str(export) if export is not None else None,
    }
    if as_json:
        print_json(document)
    else:
        facts = {key: value for key, value in document.items() if key != "metrics" and value is not None}
        lesson = {key: f"{value:.4g}" for key, value in outcome.metrics.items() if key.startswith("lesson/")}
        print_facts("run", {**facts, "train/loss_lm": outcome.loss_lm, **lesson})
    if outcome.status == "stopped":
        note(f"run {run_name} was stopped at step {outcome.steps}: {outcome.stop_reason}")
        raise typer.Exit(EXIT_STOPPED)


def _train_tracked(config: ExperimentConfig, run_name: str, tracker: Tracker) -> tuple[TrainingOutcome, str]:
    """Train with the metric lines going to the bar and the tracker; the tracked run ends as the training does."""
    from dpn_platform.cli.train_progress import TrainProgress
    from dpn_platform.reports.routing.over_time import routing_history_svg
    from dpn_platform.training.guards import Budgets
    from dpn_platform.training.run import run_training
    from dpn_platform.training.tracked_run import TrackedRun

    def on_open(url: str) -> None:
        note(f"run {run_name}: {url}" if url else f"run {run_name}")

    tracked = TrackedRun(tracker, config, run_name, draw=routing_history_svg, on_open=on_open)
    budgets = Budgets(config.train.guards)
    warns = config.train.guards.action == "warn"
    try:
        with progress(f"training {run_name}", config.train.steps) as advance:
            show = TrainProgress(advance, config.train.steps)

            def on_report(line: dict[str, float]) -> None:
                tracked.log_line(line)
                show(line)
                if warns and (breach := budgets.judge(line)) is not None:
                    note(f"warning: {breach}")

            outcome = run_training(config, run_name=run_name, on_report=on_report, on_note=note)
    except BaseException as error:
        tracked.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    method = {key: value for key, value in flatten(config) if key.startswith("method.")}
    tracked.finish(outcome, model_params=method)
    return outcome, tracked.run_id
