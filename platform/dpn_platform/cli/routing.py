"""`dpn report routing`: what the routers of an evaluated model did (the paper's Fig. 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table

if TYPE_CHECKING:
    from dpn_platform.evaluation.recorded_runs import RecordedRun

NAMES = ("routing.json", "routing.csv", "routing.png")


def routing(
    evaluations: Annotated[
        list[str], typer.Argument(help="Output folders of `dpn evaluate`, one per benchmark; or predictions.parquet.")
    ],
    out: Annotated[str | None, typer.Option(help="Folder or URI; default: outputs/routing.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace files in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Count routes; hold them against question type, picture and correctness. Table, JSON, CSV and figure."""
    with clean_stdout():
        from dpn_platform.benchmarks.scoring import publish
        from dpn_platform.evaluation.recorded_runs import read_recorded

        statistics, contents = routing_contents([read_recorded(uri) for uri in evaluations], seed)
        folder = (out or "outputs/routing").rstrip("/")
        for name, data in contents.items():
            publish(f"{folder}/{name}", data, force=force or out is None)
    if as_json:
        print_json(statistics | {"files": [f"{folder}/{name}" for name in NAMES]})
        return
    _show(statistics)
    note(f"files: {', '.join(f'{folder}/{name}' for name in NAMES)}")


def routing_contents(runs: list[RecordedRun], seed: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The statistics of some evaluations, and the files `NAMES` that hold and show them.

    Raises:
        DpnError: a model without routers is among them.
    """
    from dpn_platform.evaluation.routing_statistics import routing_statistics
    from dpn_platform.reports.routing.export import routing_csv
    from dpn_platform.reports.routing.figure import routing_png

    groups = _groups(runs)
    rows = [row for run in runs for row in run.rows if row["has_image"]]
    statistics = routing_statistics(rows, groups, seed)
    text = json.dumps(statistics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    title = "Routes per benchmark" if len(runs) > 1 else f"Routes on {runs[0].name}, per question family"
    contents = (text.encode(), routing_csv(statistics).encode(), routing_png(statistics, title))
    return statistics, dict(zip(NAMES, contents, strict=True))


def _groups(runs: list[RecordedRun]) -> dict[str, list[Mapping[str, Any]]]:
    """One group per evaluation, under names that differ; of a single one its question families."""
    from dpn_platform.evaluation.recorded_runs import require_router
    from dpn_platform.evaluation.scoring import by_family

    shown = [require_router(run) for run in runs]
    if len(runs) == 1:
        families = dict(sorted(by_family(shown[0]).items()))
        return families if len(families) == 1 else {"all": shown[0], **families}
    names = [run.name for run in runs]
    unique = [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)]
    return dict(zip(unique, shown, strict=True))


def _show(statistics: Mapping[str, Any]) -> None:
    from dpn_platform.reports.routing.figure import route_labels

    labels = route_labels(statistics["groups"])
    lines: list[tuple[object, ...]] = []
    for name, group in statistics["groups"].items():
        common = "  ".join(
            f"{labels[route]} {100 * found['share']:.0f}%" for route, found in list(group["routes"].items())[:5]
        )
        lines.append((name, group["n"], group["distinct_routes"], f"{100 * group['keep_ratio']:.1f}", common))
    print_table(
        "Routes (cells pooled into one at each site)",
        ("group", "samples", "routes", "tokens kept %", "commonest"),
        lines,
    )
    rows = [
        (statistic.replace("_", " "), key, *_cells(summary))
        for statistic in ("question_type", "difficulty", "correctness")
        for key, summary in statistics[statistic].items()
    ]
    for name, found in statistics["image"].items():
        label = name.replace("_", " ")
        rows += [(label, f"{one['from']:.3g} to {one['to']:.3g}", *_cells(one)) for one in found["bins"]]
    head = ("against", "", "samples", "tokens kept %", "95% interval", "right %")
    print_table("Visual tokens kept, mean over the layers", head, rows)
    pairs = statistics["same_image"]
    if pairs:
        note(
            f"same picture, simpler question: pooled more {pairs['simpler_pooled_more']}, "
            f"less {pairs['simpler_pooled_less']}, same {pairs['same']} (sign test p = {pairs['sign_test_p']:.3g})"
        )


def _cells(summary: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = summary["ci95"]
    right = "–" if summary["accuracy"] is None else f"{100 * summary['accuracy']:.1f}"
    return str(summary["n"]), f"{100 * summary['keep_ratio']:.1f}", f"{100 * low:.1f} to {100 * high:.1f}", right
