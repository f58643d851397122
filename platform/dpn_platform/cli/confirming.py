"""Asks before a study starts that costs more than `sweep.limits.confirm_above` device-hours."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from dpn_platform.cli.console import note, progress
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.schema import ExperimentConfig

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, whatever sweep.limits.confirm_above says.")]


def planned_hours(config: ExperimentConfig) -> float | None:
    """Device-hours of a new study on its dearest routes, as `dpn plan` tells them; None: of these devices it cannot."""
    with progress("planning"):
        from dpn_platform.planning.build import Assumptions, build_plan

        total = build_plan(config, Assumptions(peak_tflops=config.train.peak_tflops))["total"]
    return None if total["device"] is None else float(total["device_hours_in_all"]["high"])


def confirm(config: ExperimentConfig, hours: float | None, *, yes: bool) -> None:
    """Goes on below the limit, or where somebody says so.

    Raises:
        ConfigError: nobody is there to be asked, or the study's time is over.
        typer.Abort: somebody said no.
    """
    assert config.sweep is not None
    until = config.sweep.limits.until
    if until is not None and datetime.now(until.tzinfo) >= until:
        raise ConfigError(f"sweep.limits.until = {until.isoformat(timespec='minutes')} is past: nothing would start")
    limit = config.sweep.limits.confirm_above
    if limit is None or yes:
        return
    if hours is None:
        note(f"what it will take is not known beforehand (sweep.limits.confirm_above = {limit:g})")
        return
    if hours <= limit:
        return
    told = f"it comes to about {hours:.2f} device-hours, sweep.limits.confirm_above is {limit:g}"
    if not sys.stdin.isatty():
        raise ConfigError(f"{told}; say --yes, or ask for less")
    typer.confirm(f"{told}; start?", abort=True, err=True)
