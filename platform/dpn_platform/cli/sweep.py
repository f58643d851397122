"""`dpn sweep`: the main job, a study and its Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_text, progress
from dpn_platform.cli.starting import services_of
from dpn_platform.cli.study_progress import StudyProgress
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.reports.study.build import ReportPaths
    from dpn_platform.reports.study.record import StudyRecord
    from dpn_platform.sweeps.study import StudyResult


def register(app: typer.Typer) -> None:
    """Adds `dpn sweep`."""
    app.command("sweep")(sweep)


def sweep(
    config: Annotated[Path, typer.Argument(help="Experiment YAML with a section `sweep`.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the study. Default: the config's name and the time.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study --name, or the newest unfinished one of this config.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Run a study: controls and searched trials under one recipe, their Pareto front, its report."""
    experiment = load_config(config, overrides or [])
    if experiment.sweep is None:
        raise DpnError(f"{config}: has no section 'sweep'; use `dpn train`, or add the section")
    with clean_stdout(), services_of(experiment):
        _check_words(experiment)
        result = _run(experiment, name, resume)
        record, paths, chart = _report(experiment, result)
    _show(record, paths, chart, as_json)
    for trial, reason in result.failed.items():
        note(f"trial {trial} failed: {reason}")
    if result.failed:
        note(f"try the failed ones again: dpn sweep {config} --name {result.study_name} --resume")
        raise typer.Exit(1)


def _check_words(config: ExperimentConfig) -> None:
    """Once, before the study starts: every one of its trials would stop."""
    from dpn_platform.data.published.manifest import load_manifest
    from dpn_platform.training.words import check_words

    if (told := check_words(config, load_manifest(config.data.uri))) is not None:
        note(told)


def _run(config: ExperimentConfig, name: str | None, resume: bool) -> StudyResult:
    from dpn_platform.sweeps.study import run_study

    with progress("starting the study") as advance:
        return run_study(config, study_name=name, resume=resume, on_event=StudyProgress(advance, note))


def _report(config: ExperimentConfig, result: StudyResult) -> tuple[StudyRecord, ReportPaths, str]:
    """Build the report, and keep it where the study is tracked and in storage; the last is the tracker's chart."""
    from dpn_platform.reports.study.build import build_report, study_record
    from dpn_platform.reports.study.publish import publish_report
    from dpn_platform.reports.study.record import StudyRecord
    from dpn_platform.storage import upload_folder
    from dpn_platform.tracking import open_tracker

    assert config.sweep is not None
    record = study_record(
        StudyRecord(
            name=result.study_name,
            points=result.points,
            mlflow_uri=result.mlflow_uri,
            meta=result.meta,
            convention=config.sweep.flops_convention,
        ),
        result.examples,
    )
    folder = Path("outputs").resolve() / result.study_name
    with progress("drawing the report"):
        paths = build_report(record, folder)
        tracker = open_tracker(config.tracking, config.storage.runs_uri)
        chart = publish_report(record, paths, tracker, result.run_id)
        upload_folder(folder, f"{result.ledger_uri}/report")
    return record, paths, chart


def _show(record: StudyRecord, paths: ReportPaths, chart: str, as_json: bool) -> None:
    from dpn_platform.reports.study.export import study_document

    if as_json:
        print_json({**study_document(record, str(paths.html)), "mlflow_chart": chart})
        return
    from rich.console import Console

    from dpn_platform.reports.study.table import front_table

    Console(highlight=False).print(front_table(record))
    if record.mlflow_uri:
        print_text(f"MLflow: {record.mlflow_uri}")
        print_text(f"accuracy against FLOPs: {chart}")
    print_text(f"report: {paths.html}")
