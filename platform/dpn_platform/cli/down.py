"""`dpn down`: stop the embedded services of this state folder, and nothing else."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn_platform.cli.console import note, print_json, print_text


def register(app: typer.Typer) -> None:
    """Adds `dpn down`."""
    app.command("down")(down)


def down(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """Stop S3, MLflow and Ray. Data and logs stay; the next `dpn up` finds them again."""
    from dpn_platform import services

    stopped = services.down(on_progress=lambda service, message: note(f"{service}: {message}"))
    if as_json:
        print_json({"home": str(services.Home.resolve().path), "stopped": stopped})
        return
    print_text(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
