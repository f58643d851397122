"""`dpn up`: start the embedded services, or mend what is not well of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import note, print_json, print_table, progress

if TYPE_CHECKING:
    from dpn_platform.services import ServicesStatus

_NUM_SERVICES = 3


def register(app: typer.Typer) -> None:
    """Adds `dpn up`."""
    app.command("up")(up)


def up(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> None:
    """Start S3, MLflow and Ray on loopback. Running ones are kept, dead or sick ones are started again."""
    from dpn_platform import services

    healthy: set[str] = set()
    with progress("starting the services", _NUM_SERVICES) as advance:

        def tell(service: str, message: str) -> None:
            note(f"{service}: {message}")
            if message.startswith(("up at", "running at")):
                healthy.add(service)
            advance(len(healthy))

        endpoints = services.up(on_progress=tell)
    now = services.status()
    if as_json:
        print_json(
            {**now.to_json(), "endpoints": endpoints.public(), "env_file": str(services.Home.resolve().env_file)}
        )
        return
    show(now)
    note(f"for other tools (aws, ray, mlflow): source {services.Home.resolve().env_file}")


def show(now: ServicesStatus) -> None:
    """The table of `dpn up` and `dpn status`."""
    rows = [
        (service.name, service.state, service.pid or "-", service.url or "-", service.detail or f"log {service.log}")
        for service in now.services
    ]
    print_table(f"services of {now.home}", ("service", "state", "pid", "address", "detail"), rows)
