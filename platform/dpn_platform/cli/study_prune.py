"""`dpn study prune`: free the storage that nothing of a study needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, print_json, print_table, print_text
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate

if TYPE_CHECKING:
    from dpn_platform.sweeps.pruning import Prunable

_MIB = 2**20


def prune(
    study: Study,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without, it is only listed.")] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """List, or delete, what neither the front nor an alias, a resume or another study needs."""
    with clean_stdout():
        ledger = locate(study, runs_uri, exactly=delete)
        from dpn_platform.sweeps import pruning

        found = pruning.prune(ledger) if delete else pruning.prunable(ledger)
    if as_json:
        print_json({"study": ledger.study, "deleted": delete, "found": [one._asdict() for one in found]})
        return
    _show(ledger.study, found)
    total = sum(one.size for one in found) / _MIB
    if not found:
        print_text("nothing can go")
    elif delete:
        print_text(f"{total:,.1f} MiB deleted")
    else:
        print_text(f"{total:,.1f} MiB can go: dpn study prune {ledger.study} --delete")


def _show(study: str, found: list[Prunable]) -> None:
    sizes: dict[tuple[str, str], int] = {}
    for one in found:
        sizes[one.trial, one.what] = sizes.get((one.trial, one.what), 0) + one.size
    rows = [(trial or "-", what, f"{size / _MIB:,.1f}") for (trial, what), size in sizes.items()]
    if rows:
        print_table(f"study {study}", ("trial", "what", "MiB"), rows)
