"""`dpn study`: the studies in storage. A verb is a file of its own and a line here."""

from __future__ import annotations

import typer

from dpn_platform.cli.study_archive import archive
from dpn_platform.cli.study_clone import clone
from dpn_platform.cli.study_diff import diff
from dpn_platform.cli.study_extend import extend
from dpn_platform.cli.study_list import list_
from dpn_platform.cli.study_promote import aliases, promote
from dpn_platform.cli.study_prune import prune
from dpn_platform.cli.study_show import show
from dpn_platform.cli.study_transfer import export, import_


def register(app: typer.Typer) -> None:
    """Adds `dpn study`."""
    group = typer.Typer(
        help="List, look at, extend, compare studies; write a recipe of one, move it, put it away, free its storage.",
        no_args_is_help=True,
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("extend")(extend)
    group.command("diff")(diff)
    group.command("clone")(clone)
    group.command("promote")(promote)
    group.command("aliases")(aliases)
    group.command("export")(export)
    group.command("import")(import_)
    group.command("archive")(archive)
    group.command("prune")(prune)
    app.add_typer(group, name="study")
