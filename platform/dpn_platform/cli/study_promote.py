"""`dpn study promote` and `dpn study aliases`: aliases of a study's points, and why they moved or stayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpn_platform.sweeps.promotion.decision import Decision


def promote(
    study: Study,
    alias: Annotated[
        list[str] | None,
        typer.Option(help="champion, knee, budget-X, objective-P. Default: those it has, or champion and knee."),
    ] = None,
    guard: Annotated[list[str] | None, typer.Option(help="A benchmark that a new holder must not lose on.")] = None,
    margin: Annotated[float, typer.Option(help="Points that a guard's interval may reach below zero.")] = 1.0,
    alpha: Annotated[float, typer.Option(help="Chance that a holder is ever replaced by a point no better.")] = 0.05,
    runs_uri: RunsUri = DEFAULT_RUNS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and keep nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move each alias to a new point if that truly beats the present one, on the same questions."""
    with clean_stdout():
        ledger = locate(study, runs_uri)
        from dpn_platform.config.aliases import CHAMPION, KNEE
        from dpn_platform.sweeps.promotion.decision import current_aliases
        from dpn_platform.sweeps.promotion.guarding import Guards
        from dpn_platform.sweeps.promotion.promote import promote as decide_and_keep
        from dpn_platform.sweeps.promotion.promote import read_decisions

        wanted = alias or list(current_aliases(read_decisions(ledger))) or [CHAMPION, KNEE]
        guards = Guards(tuple(guard or ()), margin)
        decisions = decide_and_keep(ledger, wanted, guards, alpha=alpha, dry_run=dry_run)
    if as_json:
        shown = [decision.to_json() for decision in decisions]
        print_json({"study": ledger.study, "dry_run": dry_run, "decisions": shown})
        return
    _print_decisions(f"Aliases of {ledger.study}", decisions)
    if dry_run:
        note("dry run: nothing was kept")


def aliases(
    study: Study,
    history: Annotated[bool, typer.Option("--history", help="Every decision, not only what each alias names.")] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Show what each alias of a study names, and why."""
    with clean_stdout():
        ledger = locate(study, runs_uri)
        from dpn_platform.sweeps.promotion.decision import current_aliases
        from dpn_platform.sweeps.promotion.promote import read_decisions

        decisions = read_decisions(ledger)
    if as_json:
        document = {"study": ledger.study, "aliases": current_aliases(decisions)}
        print_json({**document, "decisions": [decision.to_json() for decision in decisions]} if history else document)
        return
    if not decisions:
        note(f"study {ledger.study} has no alias yet: dpn study promote {study}")
        return
    changes = {one.alias: one for one in decisions if one.action in ("first", "moved")}
    _print_decisions(f"Aliases of {ledger.study}", decisions if history else list(changes.values()))


def _print_decisions(title: str, decisions: Sequence[Decision]) -> None:
    rows = [
        (one.number or "-", one.decided_at[:16], one.alias, one.holder or "nothing", one.action, one.reason)
        for one in decisions
    ]
    print_table(title, ("record", "decided", "alias", "names", "", "why"), rows)
