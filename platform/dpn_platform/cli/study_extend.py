"""`dpn study extend`: more trials, another space, new methods, more seeds or questions, for a study that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.confirming import Yes, confirm
from dpn_platform.cli.console import clean_stdout, note, print_json, print_text
from dpn_platform.cli.starting import services_for, services_of, stores_for
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study
from dpn_platform.cli.sweep import Ended, run_to_report, show_ended
from dpn_platform.config.errors import ConfigError
from dpn_platform.config.load import apply_overrides, as_written, load_config, parse_config
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_platform.sweeps.outlook import Outlook


def extend(
    study: Study,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="A recipe; single keys, dotted.")
    ] = None,
    trials: Annotated[int, typer.Option(min=0, help="So many proposals more than it asks for now.")] = 0,
    branch: Annotated[
        str | None, typer.Option(help="Name of a new study for what is not comparable; equal trials are shared.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is open and what it takes; start nothing.")
    ] = False,
    yes: Yes = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Add to a study. What it holds is not run again; without changes, what was interrupted goes on."""
    with clean_stdout():
        with services_for(study if "/" in study else runs_uri, ray=False):
            from dpn_platform.sweeps.catalogue import find_study

            ledger = find_study(runs_uri, study)
            study = ledger.study
            experiment = extended(ledger.config(), changes or [], trials)
            seen = None
            if dry_run:
                with stores_for(experiment):
                    seen = _outlook(experiment, branch or study, is_there=branch is None)
        ended = _extend(experiment, study, branch, yes=yes) if seen is None else None
    if seen is not None:
        print_json(seen._asdict()) if as_json else print_text(seen.line())
    elif ended is not None:
        show_ended(ended, f"dpn study extend {branch or study}", as_json)


def _extend(experiment: ExperimentConfig, study: str, branch: str | None, *, yes: bool) -> Ended:
    with services_of(experiment):
        is_asked = experiment.sweep is not None and experiment.sweep.limits.confirm_above is not None and not yes
        seen = _outlook(experiment, branch or study, is_there=branch is None) if is_asked else None
        confirm(experiment, None if seen is None else seen.device_hours, yes=yes)
        if branch is not None:
            note(f"{branch} is a study of its own; what equals a trial of {study} is taken over")
        return run_to_report(experiment, branch or study, extend=branch is None)


def _outlook(config: ExperimentConfig, study: str, *, is_there: bool) -> Outlook:
    """What is open.

    Raises:
        DpnError: its trials would not be comparable with those that are there.
    """
    from dpn_platform.data.published.manifest import load_manifest
    from dpn_platform.sweeps.ledger import Ledger
    from dpn_platform.sweeps.outlook import outlook

    ledger, data = Ledger(config.storage.runs_uri, study), load_manifest(config.data.uri).fingerprint
    if is_there:
        ledger.extended(config, data)  # refuses what is not comparable; writes nothing
    return outlook(config, ledger, data)


def extended(stored: ExperimentConfig, changes: list[str], trials: int) -> ExperimentConfig:
    """The study's config with what is asked for: a recipe in its place, single keys over it, more proposals.

    Raises:
        ConfigError: a change that is none, or a recipe without a sweep.
    """
    recipe = [change for change in changes[:1] if "=" not in change]
    given = changes[len(recipe) :]
    if recipe:
        config = load_config(Path(recipe[0]), given)
    else:
        values: dict[str, Any] = apply_overrides(stored.model_dump(mode="json"), given)
        config = parse_config(values, f"study '{stored.name}'")
    if config.sweep is None:
        raise ConfigError(f"{recipe[0]}: has no section 'sweep'; a study is extended by a sweep")
    held = stored.sweep.num_trials if stored.sweep is not None else 0
    if config.sweep.num_trials + trials < held:
        asked = config.sweep.num_trials + trials
        raise ConfigError(f"sweep.num_trials = {asked}: the study asks for {held} already; allowed: {held} and more")
    # Where a study is kept is its own business, whatever a recipe says.
    sweep = config.sweep.model_copy(update={"num_trials": config.sweep.num_trials + trials})
    kept = {"sweep": sweep, "storage": stored.storage, "tracking": stored.tracking}
    return as_written(config.model_copy(update=kept), recipe[0] if recipe else f"study '{stored.name}'")
