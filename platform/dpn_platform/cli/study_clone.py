"""`dpn study clone`: a study's config as a recipe, with changes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_text
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate


def clone(
    study: Study,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, dotted.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the new name with .yaml, here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace that file.")] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Write the recipe of a study with changes, for `dpn sweep`. It gets a new name unless name=... gives one."""
    with clean_stdout():
        ledger = locate(study, runs_uri)
        from dpn_platform.benchmarks.scoring import publish
        from dpn_platform.sweeps.cloning import cloned

        copy = cloned(ledger, overrides or ())
        target = out or Path(f"{copy.config.name}.yaml")
        publish(str(target), copy.text(str(target)).encode(), force=force)
    if as_json:
        print_json({"study": ledger.study, "file": str(target), "name": copy.config.name, "changes": copy.changes})
        return
    for change in copy.changes:
        print_text(change)
    note(f"recipe: {target}; run it: dpn sweep {target}")
