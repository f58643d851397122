"""`dpn study archive`: put a study away, and take it out again."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn_platform.cli.console import clean_stdout, print_json, print_text
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate


def archive(
    study: Study,
    undo: Annotated[bool, typer.Option("--undo", help="Take it out again.")] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Put a study away: not listed, not resumed, nothing deleted. Refused while a driver runs it."""
    with clean_stdout():
        ledger = locate(study, runs_uri, exactly=True)
        header = ledger.archive(undo=undo)
    if as_json:
        print_json({"study": ledger.study, "uri": ledger.uri, "archived": header.archived})
    elif undo:
        print_text(f"study {ledger.study} is out again")
    else:
        print_text(f"study {ledger.study} is archived: `dpn study list --all` shows it, --undo takes it out again")
