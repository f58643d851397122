"""`dpn report compare`: scored runs side by side, and beside the paper's tables."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_json, print_table

if TYPE_CHECKING:
    from dpn_platform.reports.comparison.answered_boxes import ApComparison
    from dpn_platform.reports.comparison.paper_table import PaperRow
    from dpn_platform.reports.comparison.runs import RunComparison


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="Folders of `dpn evaluate`, or per-question files of `dpn score`; the control first."),
    ],
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Compare only this one (repeatable); says what single files hold.")
    ] = None,
    paper: Annotated[bool, typer.Option("--paper", help="Set the runs beside the paper's tables 1 to 4.")] = False,
    html: Annotated[str | None, typer.Option(help="Page to write; default: outputs/comparisons/RUNS.html.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a page named with --html.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Compare scored runs with the first: paired differences, won and lost questions, averages."""
    with clean_stdout():
        from dpn_platform.benchmarks.registry import find_benchmark
        from dpn_platform.benchmarks.scoring import publish
        from dpn_platform.benchmarks.statistics.scored_runs import read_runs
        from dpn_platform.reports.comparison.answered_boxes import compare_ap
        from dpn_platform.reports.comparison.page import comparison_page
        from dpn_platform.reports.comparison.paper_table import paper_rows
        from dpn_platform.reports.comparison.runs import compare_runs, run_scores

        names = [find_benchmark(name).name for name in benchmark or ()]
        scored = read_runs(runs, names)
        ap = compare_ap(scored, seed)
        comparison = compare_runs(scored, seed)
        rows = paper_rows({run: run_scores(comparison, run) for run in comparison.runs}) if paper else []
        target = html or str(Path("outputs") / "comparisons" / f"{_file_name(comparison.runs)}.html")
        # A page under its default name is this verb's own and is drawn anew; one that was named may be the user's.
        publish(target, comparison_page(comparison, rows, ap).encode(), force=force or html is None)
    if as_json:
        document = comparison.to_json() | {"ap": ap.to_json(), "html": target}
        print_json(document | ({"paper": [row.to_json() for row in rows]} if paper else {}))
        return
    _show(comparison)
    _show_ap(ap)
    if rows:
        _show_paper(rows)
    note(f"page: {target}")


def _file_name(runs: tuple[str, ...]) -> str:
    return "-vs-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", run) for run in runs)


def _show(comparison: RunComparison) -> None:
    from dpn_platform.reports.comparison.page import p_text
    from dpn_platform.reports.look.labels import signed_points

    lines: list[tuple[object, ...]] = []
    for name, scores in comparison.scores.items():
        for place, (run, score) in enumerate(scores.items()):
            low, high = score.ci95
            line = (name if place == 0 else "", score.n, run, f"{score.value:.2f}", f"{low:.2f} to {high:.2f}")
            if place == 0:
                lines.append((*line, "", "", "", ""))
                continue
            one = comparison.differences[name][place - 1]
            bounds = " to ".join(signed_points(bound / 100, 2) for bound in one.ci95)
            change = signed_points(one.value / 100, 2) + ("" if one.is_resolved else " ~")
            odds = f"{len(one.wins)} : {len(one.losses)}"
            lines.append((*line, change, bounds, odds, f"{p_text(one.p_value)} ({p_text(one.p_holm)})"))
    head = ("benchmark", "n", "run", "score", "95% interval", "difference", "95% interval", "won : lost", "p (Holm)")
    print_table(f"Against {comparison.runs[0]}, the same questions (~: difference inside its interval)", head, lines)
    _show_averages(comparison)


def _show_ap(ap: ApComparison) -> None:
    from dpn_platform.reports.comparison.page import estimate_text

    if ap.left_out:
        note(f"no AP of answered boxes: {ap.left_out}")
    if not ap.scores:
        return
    lines = [
        (
            one.run,
            estimate_text(one.ap.to_json()),
            estimate_text(one.change.to_json()) if one.change else "",
            one.ranking,
        )
        for one in ap.scores
    ]
    title = f"AP of answered boxes, {ap.categories} categories (95% intervals, the same pictures drawn)"
    print_table(title, ("run", "AP", "difference", "ranked by"), lines)


def _show_averages(comparison: RunComparison) -> None:
    from dpn_platform.reports.look.labels import NOT_MEASURED, signed_points

    lines = []
    for run in comparison.runs:
        cells = [run]
        for mean in (comparison.paper_average, comparison.full_average):
            value = mean.values[run]
            cells.append(NOT_MEASURED if value is None else f"{value:.2f}")
            change = mean.differences.get(run)
            bounds = " to ".join(signed_points(bound / 100, 2) for bound in change[1]) if change else ""
            cells.append(f"{signed_points(change[0] / 100, 2)} ({bounds})" if change else "")
        lines.append(cells)
    count = len(comparison.full_average.columns)
    head = ("run", "AVG of the paper", "difference", f"all {count} benchmarks", "difference")
    print_table("Averages (MME/20; the paper's leaves out MMMU, SEED and VizWiz)", head, lines)
    if comparison.paper_average.missing:
        note(f"no average of the paper: {', '.join(comparison.paper_average.missing)} missing")
    if len(comparison.runs) > 1:
        note(f"a difference is the method's only if {comparison.runs[0]} is its control: same recipe, uncompressed")


def _show_paper(rows: list[PaperRow]) -> None:
    from dpn_platform.reports.comparison.paper_table import footnotes
    from dpn_platform.reports.comparison.paper_text import LEGEND, benchmarks_of, paper_cells, paper_head
    from dpn_platform.reports.comparison.reference_tables import flops_convention

    for table, group in groupby(rows, key=lambda row: row.table):
        own = list(group)
        names = benchmarks_of(own)
        title = f"The paper's table {table.removeprefix('table')}, its AVG recomputed; (run): measured"
        print_table(title, paper_head(names)[1:], [cells[1:] for cells in paper_cells(own, names)])
        for text, number in footnotes(own).items():
            note(f"[{number}] {text}")
    for mark, text in LEGEND.items():
        note(f"{mark}: {text}")
    note(f"FLOPs: {flops_convention()}")
