"""`dpn study list`: which studies there are, and how each stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, open_store
from dpn_platform.config.errors import DpnError

if TYPE_CHECKING:
    from dpn_platform.sweeps.catalogue import Standing


def list_(
    state: Annotated[
        list[str] | None, typer.Option(help="running, interrupted, finished, archived or damaged (repeatable).")
    ] = None,
    match: Annotated[str, typer.Option(metavar="GLOB", help="Names that fit, as in 'demo-*'.")] = "*",
    everything: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False,
    long: Annotated[
        bool, typer.Option("--long", help="How many trials finished and failed, the front, the best.")
    ] = False,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """List the studies in storage, the newest first."""
    with clean_stdout():
        open_store(runs_uri)
        from dpn_platform.evaluation.points import without_nan
        from dpn_platform.sweeps.catalogue import list_studies, study_names

        chosen = _states(state, everything)
        found = list_studies(runs_uri, match, states=chosen, with_records=True, long=long)
        rows = [_row(one, long) for one in found]
        is_empty = not rows and not study_names(runs_uri)
    if as_json:
        print_json(without_nan({"runs_uri": runs_uri, "studies": rows}))
        return
    if not rows:
        note(
            f"there are no studies in {runs_uri}; --runs-uri looks elsewhere"
            if is_empty
            else f"no study in {runs_uri} fits; --all shows archived ones too, --runs-uri looks elsewhere"
        )
        return
    _show([one.told for one in found], rows, long)
    for row in rows:
        for fault in row["faults"]:
            note(f"damaged: {fault}")


def _states(given: Sequence[str] | None, everything: bool) -> set[str]:
    from dpn_platform.sweeps.catalogue import StudyState

    known = get_args(StudyState)
    for one in given or ():
        if one not in known:
            raise DpnError(f"--state {one} is unknown; allowed are {', '.join(known)}")
    return set(given or ()) or set(known if everything else [one for one in known if one != "archived"])


def _row(study: Standing, long: bool) -> dict[str, Any]:
    """One study for machines; what was not read is left out."""
    from dpn_platform.reports.study.brief import brief_of

    header = study.header
    row: dict[str, Any] = {
        "name": study.name,
        "state": study.state,
        "created": study.created or None,
        "config": None if header is None else header.config_name,
        "trials": study.num_trials,
        "extensions": 0 if header is None else len(header.extensions),
        "duration_s": None if header is None else header.duration_s,
        "archived": None if header is None else header.archived,
        "faults": list(study.faults),
    }
    if study.is_read:
        counts = {"finished": study.count("finished"), "stopped": study.count("stopped")}
        row |= counts | {"failed": study.count("failed"), "open": study.count("waiting", "running")}
        row["damaged"] = len(study.damaged)
    if study.is_read and long:
        row |= brief_of(study.points, study.convention) | {"convention": study.convention}
    return row


def _show(states: Sequence[str], rows: Sequence[dict[str, Any]], long: bool) -> None:
    from dpn_platform.reports.look.labels import NOT_MEASURED, percent, ratio

    head = ["study", "state", "created (UTC)", "trials", "ext.", "took"]
    head += ["done", "failed", "open", "on front", "best %", "as good as dense"] if long else []
    lines: list[list[object]] = []
    for state, row in zip(states, rows, strict=True):
        created = (row["created"] or NOT_MEASURED)[:16].replace("T", " ")
        took = str(timedelta(seconds=round(row["duration_s"]))) if row["duration_s"] else NOT_MEASURED
        line: list[object] = [row["name"], state, created, row["trials"], row["extensions"], took]
        if "best" in row:
            best, cheap = row["best"], row["cheapest_as_good_as_dense"]
            line += [row["finished"], row["failed"], row["open"], row["on_front"]]
            line.append(NOT_MEASURED if best is None else percent(best["accuracy"]))
            line.append(NOT_MEASURED if cheap is None else f"{cheap['name']} at {ratio(cheap['flops_ratio'], 2)}")
        else:
            line += [NOT_MEASURED] * 6 if long else []
        lines.append(line)
    print_table(f"{len(rows)} studies" if len(rows) != 1 else "1 study", head, lines)
