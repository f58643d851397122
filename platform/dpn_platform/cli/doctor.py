"""`dpn doctor`: what is installed, reachable and configured; what is missing and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import note, print_json, print_table, progress
from dpn_platform.config.errors import DpnError

if TYPE_CHECKING:
    from dpn_platform.services.diagnosis import Diagnosis

EXIT_UNUSABLE = 1


def register(app: typer.Typer) -> None:
    """Adds `dpn doctor`."""
    app.command("doctor")(doctor)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Read versions only; import nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Look at everything the platform needs. Exits with 0 when it is usable, 1 when not."""
    try:
        from dpn_platform.services.diagnosis import diagnose
    except ModuleNotFoundError as error:  # doctor's own needs are missing already
        raise DpnError(f"package {error.name} is not installed; run `make setup`") from error

    with progress("importing the packages") as advance:
        diagnosis = diagnose(
            imports=not quick,
            on_progress=lambda name, done, total: advance(done, f"imported {name}", total),
        )
    if as_json:
        print_json(diagnosis.to_json())
    else:
        _show(diagnosis)
    if not diagnosis.is_usable:
        raise typer.Exit(EXIT_UNUSABLE)


def _show(diagnosis: Diagnosis) -> None:
    rows = [(one.area, one.name, one.state, one.detail) for one in diagnosis.findings]
    print_table("dpn doctor", ("area", "name", "state", "found"), rows)
    for one in diagnosis.findings:
        if one.mend:
            note(f"{one.state}: {one.name}: {one.mend}")
    counts = {state: sum(one.state == state for one in diagnosis.findings) for state in ("ok", "warn", "fail")}
    verdict = "usable" if diagnosis.is_usable else "not usable"
    note(f"{verdict}: {counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} missing or broken")
