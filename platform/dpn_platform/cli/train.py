"""`dpn train`: one training run, tracked; the same command continues what was interrupted."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, progress
from dpn_platform.config.load import dump_config, fingerprint, flatten, load_config
from dpn_platform.config.provenance import manifest_of_versions
from dpn_platform.config.schema import ExperimentConfig

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
    """Train one model. Stopped or killed, the same command continues from the latest checkpoint."""
    experiment = load_config(config, overrides or [])
    with clean_stdout():
        _connect()
        from dpn_platform.tracking import open_tracker
        from dpn_platform.training.run_folder import run_fingerprint

        run_name = name or f"{experiment.name}-{run_fingerprint(experiment)[:8]}"
        tracker = open_tracker(experiment.tracking)
        outcome, run_id = _train_tracked(experiment, run_name, tracker)
        if export is not None:
            from dpn_platform.storage import download_folder

            download_folder(outcome.export_uri, str(export))
    document = {
        **asdict(outcome),
        "fingerprint": fingerprint(experiment),
        "mlflow_run": tracker.run_url(run_id),
        "exported_to": str(export) if export is not None else None,
    }
    if as_json:
        print_json(document)
    else:
        facts = {key: value for key, value in document.items() if key != "metrics" and value is not None}
        print_facts("run", {**facts, "train/loss_lm": outcome.loss_lm})


def _connect() -> None:
    from dpn_platform.services import connect

    with progress("connecting to the services"):
        connect(start=True)  # before the first import of ray, which reads the environment
        from dpn_platform.services.ray_client import init_ray

        init_ray()


def _train_tracked(config: ExperimentConfig, run_name: str, tracker: Tracker) -> tuple[TrainingOutcome, str]:
    """Train with the metric lines going to the tracker and the bar; the tracked run ends as the training does.

    It is opened by the first line: a name that belongs to another configuration is refused before that, and the
    tracked run of that name stays as it was.
    """
    from dpn_platform.training.run import run_training

    params = dict(flatten(config))

    @cache
    def run_id() -> str:
        opened = tracker.start_run(run_name, key=run_name, params=params, tags={"dpn.kind": "run"})
        tracker.log_artifact(opened, dump_config(config), "config.yaml")
        tracker.log_artifact(opened, json.dumps(manifest_of_versions(), indent=2), "provenance.json")
        note(f"run {run_name}: {tracker.run_url(opened)}")
        return opened

    try:
        with progress(f"training {run_name}", config.train.steps) as advance:

            def on_report(line: dict[str, float]) -> None:
                step = int(line["step"])
                tracker.log_metrics(run_id(), _metrics_of(line), step)
                advance(step, f"training {run_name}, loss {line['train/loss_lm']:.3f}")

            outcome = run_training(config, run_name=run_name, on_report=on_report)
    except BaseException as error:
        if run_id.cache_info().currsize:
            tracker.end_run(run_id(), "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    method = {key: value for key, value in params.items() if key.startswith("method.")}
    tracker.log_model(run_id(), run_name, outcome.export_uri, params=method, metrics=_metrics_of(outcome.metrics))
    tracker.end_run(run_id())
    return outcome, run_id()


def _metrics_of(line: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in line.items() if key != "step"}
