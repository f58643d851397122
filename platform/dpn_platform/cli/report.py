"""`dpn report`: redraw a study's report from its stored points; its sub-verbs look at single runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dpn_platform.cli.compare import compare
from dpn_platform.cli.console import clean_stdout, note, print_json
from dpn_platform.cli.dynamic import dynamic
from dpn_platform.cli.paper import paper
from dpn_platform.cli.pictures import pictures
from dpn_platform.cli.routing import routing

if TYPE_CHECKING:
    from dpn_platform.reports.study.record import StudyRecord


#: what `dpn report STUDY` means: a study named like a sub-verb is drawn with `dpn report study NAME`
DEFAULT = "study"


class _StudyByDefault(TyperGroup):
    """A group whose first argument may be a study instead of a verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Adds `dpn report`."""
    group = typer.Typer(
        cls=_StudyByDefault,
        help="Draw a study again (dpn report STUDY), compare scored runs, hold choices per sample against a coin, "
        "audit the paper's tables, show routes.",
        subcommand_metavar="STUDY | COMMAND [ARGS]...",
        no_args_is_help=True,
    )
    group.command(DEFAULT)(report)
    group.command("compare")(compare)
    group.command("dynamic")(dynamic)
    group.command("paper")(paper)
    group.command("routing")(routing)
    group.command("pictures")(pictures)
    app.add_typer(group, name="report")


def report(
    study: Annotated[
        str,
        typer.Argument(help="A study or experiment in MLflow; or a report, or <runs>/studies/STUDY."),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder; default: the study's own, or outputs/STUDY.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Draw the front, the tables and the pictures of a study again, from its stored points."""
    with clean_stdout():
        from dpn_platform.reports.study.build import build_report
        from dpn_platform.reports.study.export import study_document
        from dpn_platform.reports.study.front import with_front

        record = with_front(_load(study))
        paths = build_report(record, out or _default_folder(study, record.name))
    if as_json:
        print_json(study_document(record, str(paths.html)))
        return
    from rich.console import Console

    from dpn_platform.reports.study.table import front_table

    Console(highlight=False).print(front_table(record))
    note(f"report: {paths.html}")
    if record.mlflow_uri:
        note(f"MLflow: {record.mlflow_uri}")


def _load(study: str) -> StudyRecord:
    """The record, with the services connected only where they are needed and not the user's own."""
    from dpn_platform.reports.study.source import is_place, read_study, study_from_mlflow
    from dpn_platform.services import connect, external_services

    needed = ("s3" if study.startswith("s3://") else None) if is_place(study) else "mlflow"
    if needed and needed not in external_services():
        connect(needs=[needed])
    return read_study(study) if is_place(study) else study_from_mlflow(study)


def _default_folder(study: str, name: str) -> Path:
    place = Path(study)
    if place.is_dir():
        return place
    return place.parent if place.is_file() else Path("outputs") / name
