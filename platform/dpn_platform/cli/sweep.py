"""`dpn sweep`: the main job, a study and its Pareto front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dpn_platform.cli.confirming import Yes, confirm, planned_hours
from dpn_platform.cli.console import clean_stdout, note, print_json, print_text, progress
from dpn_platform.cli.starting import services_of
from dpn_platform.cli.study_progress import StudyProgress
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.pipelines.report import StudyReport
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
    yes: Yes = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Run a study: controls and searched trials under one recipe, their Pareto front, its report."""
    experiment = load_config(config, overrides or [])
    if experiment.sweep is None:
        raise DpnError(f"{config}: has no section 'sweep'; use `dpn train`, or add the section")
    with clean_stdout(), services_of(experiment):
        if not resume:
            is_asked = experiment.sweep.limits.confirm_above is not None and not yes
            confirm(experiment, planned_hours(experiment) if is_asked else None, yes=yes)
        ended = run_to_report(experiment, name, resume=resume)
    show_ended(ended, f"dpn sweep {config} --name {ended.result.study_name} --resume", as_json)


class Ended(NamedTuple):
    """A study that has come to its end, and its report."""

    result: StudyResult
    report: StudyReport


def run_to_report(
    experiment: ExperimentConfig, name: str | None, *, resume: bool = False, extend: bool = False
) -> Ended:
    """Run, continue or extend a study, and report it. The services must be there."""
    _check_words(experiment)
    result = _run(experiment, name, resume=resume, extend=extend)
    from dpn_platform.pipelines.report import report_study

    with progress("drawing the report"):
        return Ended(result, report_study(experiment, result))


def show_ended(ended: Ended, again: str, as_json: bool) -> None:
    """The front for people or machines; exit code 1 where trials have failed.

    Args:
        ended: what to show.
        again: command that tries the failed ones again.
        as_json: for machines.
    """
    _show(ended.report, as_json)
    for trial, reason in ended.result.failed.items():
        note(f"trial {trial} failed: {reason}")
    if ended.result.failed:
        note(f"try the failed ones again: {again}")
        raise typer.Exit(1)


def _check_words(config: ExperimentConfig) -> None:
    """Once, before the study starts: every one of its trials would stop."""
    from dpn_platform.data.published.manifest import load_manifest
    from dpn_platform.training.words import check_words

    if (told := check_words(config, load_manifest(config.data.uri))) is not None:
        note(told)


def _run(config: ExperimentConfig, name: str | None, *, resume: bool, extend: bool) -> StudyResult:
    from dpn_platform.sweeps.study import run_study

    with progress("starting the study") as advance:
        on_event = StudyProgress(advance, note)
        return run_study(config, study_name=name, resume=resume, extend=extend, on_event=on_event)


def _show(report: StudyReport, as_json: bool) -> None:
    from dpn_platform.reports.study.export import study_document

    record, html = report.record, report.paths.html
    if as_json:
        print_json({**study_document(record, str(html)), "mlflow_chart": report.chart})
        return
    from rich.console import Console

    from dpn_platform.reports.study.table import front_table

    Console(highlight=False).print(front_table(record))
    if record.mlflow_uri:
        print_text(f"MLflow: {record.mlflow_uri}")
        print_text(f"accuracy against FLOPs: {report.chart}")
    print_text(f"report: {html}")
