"""`dpn status`: how the embedded services are."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn_platform.cli.console import note, print_json, print_table
from dpn_platform.cli.up import show


def register(app: typer.Typer) -> None:
    """Adds `dpn status`."""
    app.command("status")(status)


def status(
    every: Annotated[bool, typer.Option("--all", help="Find this user's services of every state folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Show each service: up, down or unhealthy, and why. Exits with 0 whatever it finds."""
    from dpn_platform import services

    if every:
        _show_homes(services.homes(), as_json)
        return
    now = services.status()
    if as_json:
        print_json(now.to_json())
        return
    show(now)


def _show_homes(homes: dict[str, dict[str, int]], as_json: bool) -> None:
    if as_json:
        print_json({"homes": [{"home": home, "processes": processes} for home, processes in homes.items()]})
        return
    if not homes:
        note("no service of this user runs, in whichever state folder")
        return
    rows = [
        (home, ", ".join(f"{name} ({count} processes)" for name, count in sorted(processes.items())))
        for home, processes in sorted(homes.items())
    ]
    print_table("services of this user, by state folder", ("state folder", "what runs"), rows)
    note("to end those of one: DPN_HOME=<state folder> dpn down")
