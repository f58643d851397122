"""`dpn pipeline`: a study that goes on by a schedule, one slot at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table, print_text, progress
from dpn_platform.cli.starting import services_for, services_of
from dpn_platform.cli.study_progress import StudyProgress
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.pipelines.slots import Slot

_CONFIG = typer.Argument(help="Experiment YAML with the sections `sweep` and `pipeline`.")
_OVERRIDES = typer.Argument(help="key=value, dotted.")
_JSON = typer.Option("--json", help="Print one JSON document on stdout.")


def register(app: typer.Typer) -> None:
    """Adds `dpn pipeline`."""
    group = typer.Typer(help="Let a study go on by a schedule, one slot at a time.", no_args_is_help=True)
    group.command("run")(run)
    group.command("status")(status)
    group.command("history")(history)
    app.add_typer(group, name="pipeline")


def run(
    config: Annotated[Path, _CONFIG],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    slot: Annotated[str | None, typer.Option(help="Of the schedule; default: today's date, UTC.")] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Refresh the data, extend the study, report, promote, tell. What a slot has done it does not do again."""
    experiment = _pipeline_of(config, overrides)
    with clean_stdout(), services_of(experiment):
        from dpn_platform.pipelines.run import run_slot, slot_note

        with progress("starting the slot") as advance:
            name = f"{datetime.now(UTC):%Y-%m-%d}" if slot is None else slot
            done = run_slot(experiment, name, on_event=StudyProgress(advance, note))
    if as_json:
        print_json(_document(done))
        return
    print_text(slot_note(experiment.name, done).rstrip())


def status(
    config: Annotated[Path, _CONFIG],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show the last slot: its stages, and whether it has ended."""
    slots = _slots(config, overrides)
    if as_json:
        print_json(_document(slots[-1]))
        return
    last = slots[-1]
    rows = [
        (name, ", ".join(f"{key} {value}" for key, value in found.items())[:100]) for name, found in last.stages.items()
    ]
    print_table(f"slot {last.name}: {_state(last)}", ("stage", "what it came to"), rows)
    for remark in last.remarks:
        note(remark)


def history(
    config: Annotated[Path, _CONFIG],
    overrides: Annotated[list[str] | None, _OVERRIDES] = None,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show every slot: what it added, and which aliases it moved."""
    slots = _slots(config, overrides)
    if as_json:
        print_json({"slots": [_document(slot) for slot in slots]})
        return
    rows = []
    for slot in slots:
        study: dict[str, Any] = slot.stages.get("study", {})
        decisions = slot.stages.get("promote", {}).get("decisions", [])
        moved = ", ".join(
            f"{one['alias']}: {one['holder']}" for one in decisions if one["action"] in ("first", "moved")
        )
        new = len(study["new"]) if study else ""
        rows.append((slot.name, _state(slot), study.get("study", ""), new, moved or "-", "; ".join(slot.remarks)))
    print_table("slots", ("slot", "state", "study", "new points", "aliases moved", "remarks"), rows)


def _pipeline_of(config: Path, overrides: list[str] | None) -> ExperimentConfig:
    experiment = load_config(config, overrides or [])
    if experiment.pipeline is None:
        raise DpnError(f"{config}: has no section 'pipeline'; see jobs/configs/nightly.yaml")
    return experiment


def _slots(config: Path, overrides: list[str] | None) -> list[Slot]:
    experiment = _pipeline_of(config, overrides)
    with clean_stdout(), services_for(experiment.storage.runs_uri, ray=False):
        from dpn_platform.pipelines.slots import Slots

        slots = Slots(experiment.storage.runs_uri, experiment.name).all()
    if not slots:
        raise DpnError(f"pipeline '{experiment.name}' has run no slot yet: dpn pipeline run {config}")
    return slots


def _document(slot: Slot) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(slot)


def _state(slot: Slot) -> str:
    return (
        f"ended {slot.ended}" if slot.ended else f"open, after {list(slot.stages)[-1] if slot.stages else 'its start'}"
    )
