"""`dpn status`: how the embedded services are."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn_platform.cli.console import print_json
from dpn_platform.cli.up import show


def register(app: typer.Typer) -> None:
    """Adds `dpn status`."""
    app.command("status")(status)


def status(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """Show each service: up, down or unhealthy, and why. Exits with 0 whatever it finds."""
    from dpn_platform import services

    now = services.status()
    if as_json:
        print_json(now.to_json())
        return
    show(now)
