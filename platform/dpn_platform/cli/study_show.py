"""`dpn study show`: one study as it stands: what it is, its points, its front, what is open and who runs it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, print_table, print_text
from dpn_platform.cli.study_place import DEFAULT_RUNS, AsJson, RunsUri, Study, locate

if TYPE_CHECKING:
    from dpn_model.methods.spec import Dimension
    from dpn_platform.reports.study.record import StudyRecord
    from dpn_platform.sweeps.catalogue import Standing

_SETTLED = ("finished", "stopped")


def show(
    study: Study,
    budget: Annotated[
        list[float] | None,
        typer.Option(min=0, help="Name the most accurate point at no more than this FLOPs ratio (repeatable)."),
    ] = None,
    runs_uri: RunsUri = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Show a study as it stands, from its ledger alone: points, front, best under budgets, what is open."""
    with clean_stdout():
        ledger = locate(study, runs_uri)
        from dpn_platform.evaluation.points import without_nan
        from dpn_platform.reports.study.front import with_front
        from dpn_platform.reports.study.record import StudyRecord
        from dpn_platform.sweeps.catalogue import read_study

        found = read_study(ledger)
        record = with_front(StudyRecord(found.name, found.points, convention=found.convention))
        picks = _picks(record, budget or ())
    if as_json:
        print_json(without_nan(_document(found, record, picks)))
        return
    print_facts(f"study {found.name}", _facts(found))
    _show_front(record, picks)
    _show_open(found)
    for fault in found.faults:
        note(f"damaged: {fault}")


def _picks(record: StudyRecord, budgets: Sequence[float]) -> dict[str, Any]:
    """What to choose: what the study is asked most, in brief."""
    from dpn_platform.evaluation.pareto import best_within, knee
    from dpn_platform.reports.study.brief import brief_of, brief_point

    points, convention = record.points, record.convention
    within = [
        {"budget": budget, "point": brief_point(best_within(points, budget, convention), convention)}
        for budget in budgets
    ]
    return {**brief_of(points, convention), "knee": brief_point(knee(points, convention), convention), "within": within}


def _document(study: Standing, record: StudyRecord, picks: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import asdict

    from dpn_platform.reports.study.export import study_document

    assert study.header is not None
    about = asdict(study.header) | {"uri": study.ledger.uri, "config": study.settings, "state": study.state}
    of_front = study_document(record)
    wanted = ("flops_convention", "points", "front", "flops_ratio_spread", "hypervolume_reference", "family_losses")
    return {
        **about,
        "holder": None if study.holder is None else asdict(study.holder),
        "trials": {state: study.count(state) for state in ("finished", "stopped", "failed", "running", "waiting")}
        | {"damaged": len(study.damaged)},
        "unsettled": [
            {"key": key, "state": state, "reason": reason}
            for key, state, reason in _not_finished(study)
            if state not in _SETTLED
        ],
        "stopped": {one.key: one.reason for one in study.trials if one.state == "stopped"},
        **{name: of_front[name] for name in wanted},
        "picks": picks,
        "faults": list(study.faults),
    }


def _facts(study: Standing) -> dict[str, object]:
    header = study.header
    assert header is not None
    settings = study.settings
    sweep = settings.get("sweep") or {}
    counts = {
        name: count
        for name, count in {
            "finished": study.count("finished"),
            "stopped early": study.count("stopped"),
            "failed": study.count("failed"),
            "running": study.count("running"),
            "waiting": study.count("waiting"),
            "damaged": len(study.damaged),
        }.items()
        if count
    }
    facts: dict[str, object] = {
        "state": study.told,
        "archived": header.archived or "",
        "created": header.created,
        "took": str(timedelta(seconds=round(header.duration_s))) if header.duration_s else "",
        "run by": _holder_text(study),
        "config": f"{header.config_name} ({header.fingerprint})",
        "base": (settings.get("model") or {}).get("base", ""),
        "data": (settings.get("data") or {}).get("uri", ""),
        **_searched(sweep.get("search") or {}),
        "trials": ", ".join(f"{count} {name}" for name, count in counts.items()) or "none yet",
        "extensions": "; ".join(map(_extension_text, header.extensions)),
        "ledger": study.ledger.uri,
    }
    return {name: value for name, value in facts.items() if value != ""}


def _extension_text(extension: Mapping[str, Any]) -> str:
    """What it changed, and what it took beside what was planned."""
    text = f"{extension['number']}: {', '.join(extension['changes'])}"
    if "device_hours" not in extension:
        return text
    planned = extension.get("planned_hours")
    return f"{text} ({extension['device_hours']:.2f} device-hours" + (
        ")" if planned is None else f", {planned:.2f} planned)"
    )


def _holder_text(study: Standing) -> str:
    if study.holder is None:
        return ""
    age = max(0.0, time.time() - study.holder.beat)
    return f"process {study.holder.pid} on {study.holder.host}, last sign of life {age:.0f} s ago"


def _searched(search: Mapping[str, Any]) -> dict[str, object]:
    """Methods, and what is varied of them; as it is written, where a method is not installed here."""
    from dpn_platform.config.search import SearchConfig, is_of_experiment

    try:
        spaces = SearchConfig.model_validate(search).spaces
    except ValueError:
        return {"searched": str(dict(search))}
    facts: dict[str, object] = {"method searched": ", ".join(spaces)}
    for method, space in spaces.items():
        of_method = "" if len(spaces) == 1 else f"{method}."
        for name, dimension in space.items():
            facts[f"  {name if is_of_experiment(name) else of_method + name}"] = _range_text(dimension)
    return facts


def _range_text(one: Dimension) -> str:
    """`0.03 to 3, log` of a range, else the choices."""
    if one.low is None:
        choices = (
            "{" + ",".join(map(str, each)) + "}" if isinstance(each, tuple) else str(each) for each in one.choices
        )
        return ", ".join(choices)
    told = [f"{one.low:g} to {one.high:g}", *(["log"] if one.is_log else [])]
    if one.step is not None and not (one.is_whole and one.step == 1):
        told.append(f"step {one.step:g}")
    return ", ".join(told)


def _show_front(record: StudyRecord, picks: dict[str, Any]) -> None:
    from rich.console import Console

    from dpn_platform.reports.look.labels import interval, percent, ratio
    from dpn_platform.reports.look.methods import is_dense
    from dpn_platform.reports.study.terminal import front_drawing

    if not record.points:
        print_text("no trial has finished yet")
        return
    from dpn_platform.reports.study.table import front_table

    console = Console(highlight=False)
    console.print(front_table(record))
    lines = {"knee": picks["knee"], "cheapest as good as dense": picks["cheapest_as_good_as_dense"]}
    lines |= {f"best at no more than {one['budget']:g}": one["point"] for one in picks["within"]}
    named = [point["name"] for point in lines.values() if point is not None]
    dense = [point.name for point in record.points if is_dense(point.method)]
    console.print(front_drawing(record.points, record.convention, console.width, [*named, *dense]), soft_wrap=True)
    for what, point in lines.items():
        if point is None:
            print_text(f"{what}: none")
            continue
        accuracy = f"{percent(point['accuracy'])}% ({interval(point['ci'])})"
        print_text(f"{what}: {point['name']}, {accuracy} at {ratio(point['flops_ratio'])}")


def _not_finished(study: Standing) -> list[tuple[str, str, str | None]]:
    """(trial, state, reason) of all but the finished ones that can be read."""
    open_ones = [one for one in study.trials if one.state != "finished" and one.key not in study.damaged]
    damaged = [(key, "damaged", fault) for key, fault in study.damaged.items()]
    return [*((one.key, one.state, one.reason) for one in open_ones), *damaged]


def _show_open(study: Standing) -> None:
    if rows := [(key, state, reason or "") for key, state, reason in _not_finished(study)]:
        print_table("not finished", ("trial", "state", "reason"), rows)
