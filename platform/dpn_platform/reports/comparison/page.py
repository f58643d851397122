"""A comparison of scored runs as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dpn_platform.benchmarks.statistics.paired import PairedDifference
from dpn_platform.reports.comparison.answered_boxes import ApComparison
from dpn_platform.reports.comparison.paper_table import PaperRow, footnotes
from dpn_platform.reports.comparison.paper_text import LEGEND, benchmarks_of, paper_cells, paper_head
from dpn_platform.reports.comparison.reference_tables import flops_convention
from dpn_platform.reports.comparison.runs import DIVISORS, Average, RunComparison
from dpn_platform.reports.look.labels import NOT_MEASURED, signed_points
from dpn_platform.reports.look.style import html_document
from dpn_platform.reports.look.tables import table

_PLOT_PX = (220, 22)
_LISTED_IDS = 200


def comparison_page(comparison: RunComparison, paper: Sequence[PaperRow] = (), ap: ApComparison | None = None) -> str:
    """The page's HTML; the same comparison gives the same text."""
    runs = comparison.runs
    title = " against ".join((", ".join(runs[1:]), runs[0])) if len(runs) > 1 else runs[0]
    parts = [f'<p class="kicker">Comparison</p><h1>{escape(title)}</h1>', f'<p class="lead">{_lead(comparison)}</p>']
    parts += ["<h2>Benchmarks</h2>", _benchmarks_table(comparison), f'<p class="note">{_METHOD}</p>']
    if ap is not None and ap.scores:
        parts += ["<h2>Boxes</h2>", _ap_table(ap), f'<p class="note">{_AP}</p>']
    parts += ["<h2>Averages</h2>", _averages_table(comparison), f'<p class="note">{_AVERAGES}</p>']
    if len(runs) > 1:
        parts += ["<h2>Won and lost questions</h2>", _questions(comparison)]
    if paper:
        parts += ["<h2>Beside the paper's tables</h2>", _paper(paper)]
    return html_document(title, "\n".join(parts))


_METHOD = (
    "Percent; MME in points. Intervals: 95% bootstrap over questions (MME: images, MMBench: questions with their "
    "rotations), drawn for both runs together. p: McNemar's exact test on won against lost questions, in brackets "
    "after Holm's correction over all tests here; for graded scores it is the sign test."
)
_AP = (
    "COCO's AP over IoU .5 to .95, in percent. Intervals: 95% bootstrap over pictures, drawn for both runs together. "
    "Ranked by: the scores of who proposed the boxes, or constant, where nobody scored them."
)
_AVERAGES = (
    "The paper's: mean of eight with MME/20, without MMMU, SEED and VizWiz. All benchmarks: every one compared here, "
    "MME/20. A gain over the first run speaks for the method only if that run is its control: uncompressed, trained "
    "with the same recipe."
)
_PAPER = (
    "Printed: the paper's average; AVG: recomputed by the recipe of the table, the runs' too. (control): published, "
    "uncompressed, not in the paper; (run): measured. GFLOPs: as printed. "
)


def _lead(comparison: RunComparison) -> str:
    if len(comparison.runs) == 1:
        return "One run: nothing to compare with."
    all_differences = [one for of_benchmark in comparison.differences.values() for one in of_benchmark]
    better = sum(one.ci95[0] > 0 for one in all_differences)
    worse = sum(one.ci95[1] < 0 for one in all_differences)
    return (
        f"Of {len(all_differences)} paired differences to {escape(comparison.runs[0])}, {better} are above zero, "
        f"{worse} below, {len(all_differences) - better - worse} inside their interval."
    )


def _benchmarks_table(comparison: RunComparison) -> str:
    scaled = [
        bound / DIVISORS.get(name, 1.0)
        for name, of_benchmark in comparison.differences.items()
        for one in of_benchmark
        for bound in one.ci95
    ]
    reach = max((abs(bound) for bound in scaled), default=0.0) or 1.0
    rows = []
    for name, scores in comparison.scores.items():
        first, *others = scores.items()
        rows.append(_score_row(name, first[1].n, *first, "<td>the yardstick</td><td></td><td></td><td></td>"))
        for (run, score), one in zip(others, comparison.differences[name], strict=True):
            rows.append(_score_row("", None, run, score, _difference_cells(one, reach)))
    head = ("benchmark", "n", "run", "score", "difference", "", "won : lost", "p (Holm)")
    return table(head, rows, frozenset({1, 3}))


def _score_row(name: str, n: int | None, run: str, score: Any, rest: str) -> str:
    low, high = score.ci95
    return (
        f'<tr><td>{escape(name)}</td><td class="number">{"" if n is None else n}</td><td>{escape(run)}</td>'
        f'<td class="number">{score.value:.2f}<br><small>{low:.2f}–{high:.2f}</small></td>{rest}</tr>'
    )


def _difference_cells(one: PairedDifference, reach: float) -> str:
    divisor = DIVISORS.get(one.benchmark, 1.0)
    low, high = one.ci95
    kind, word = ("good", "above") if low > 0 else ("bad", "below") if high < 0 else ("", "inside interval")
    bounds = f"{signed_points(low / 100, 2)} to {signed_points(high / 100, 2)}"
    value = f'{signed_points(one.value / 100, 2)} <span class="chip {kind}">{word}</span><br><small>{bounds}</small>'
    plot = _interval_svg(one.value / divisor, low / divisor, high / divisor, reach)
    odds = f"{len(one.wins)} : {len(one.losses)}"
    return f"<td>{value}</td><td>{plot}</td><td>{odds}</td><td>{p_text(one.p_value)} ({p_text(one.p_holm)})</td>"


def _interval_svg(value: float, low: float, high: float, reach: float) -> str:
    """A dot with its interval on a scale shared by all rows; the line in the middle is zero."""
    width, height = _PLOT_PX
    x_value, x_low, x_high = (width / 2 * (1 + 0.94 * number / reach) for number in (value, low, high))
    colour = "var(--good)" if low > 0 else "var(--bad)" if high < 0 else "var(--quiet)"
    middle = height / 2
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="interval of the difference">'
        f'<line x1="{width / 2}" x2="{width / 2}" y1="0" y2="{height}" stroke="var(--line)"/>'
        f'<line x1="{x_low:.1f}" x2="{x_high:.1f}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x_value:.1f}" cy="{middle}" r="4" fill="{colour}"/></svg>'
    )


def p_text(p_value: float) -> str:
    """`0.034`, or `<0.001`."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _ap_table(ap: ApComparison) -> str:
    rows = []
    for one in ap.scores:
        value, change = one.ap.to_json(), None if one.change is None else one.change.to_json()
        cells = (one.run, estimate_text(value), "" if change is None else estimate_text(change), one.ranking)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in map(escape, cells)) + "</tr>")
    return table(("run", f"AP, {ap.categories} categories", "difference", "ranked by"), rows)


def estimate_text(estimate: Mapping[str, Any]) -> str:
    """`48.20 (47.10 to 49.30)`, of what was measured."""
    if estimate["value"] is None or estimate["ci95"] is None:
        return NOT_MEASURED
    low, high = estimate["ci95"]
    return f"{estimate['value']:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def _averages_table(comparison: RunComparison) -> str:
    rows = [
        f"<tr><td>{escape(run)}</td>{_average_cells(comparison.paper_average, run)}"
        f"{_average_cells(comparison.full_average, run)}</tr>"
        for run in comparison.runs
    ]
    lacking = comparison.paper_average.missing
    note = f'<p class="note">No paper average: {escape(", ".join(lacking))} missing.</p>' if lacking else ""
    count = len(comparison.full_average.columns)
    return table(("run", "the paper's", "difference", f"all {count}", "difference"), rows, frozenset({1, 3})) + note


def _average_cells(mean: Average, run: str) -> str:
    value = mean.values[run]
    number = NOT_MEASURED if value is None else f"{value:.2f}"
    text = ""
    if run in mean.differences:
        difference, (low, high) = mean.differences[run]
        bounds = f"{signed_points(low / 100, 2)} to {signed_points(high / 100, 2)}"
        text = f"{signed_points(difference / 100, 2)} <small>{bounds}</small>"
    return f'<td class="number">{number}</td><td>{text}</td>'


def _questions(comparison: RunComparison) -> str:
    blocks = []
    for name, of_benchmark in comparison.differences.items():
        for one in of_benchmark:
            lists = "".join(
                f"<p>{word} ({len(ids)}): <code>{escape(_id_list(ids))}</code></p>"
                for word, ids in (("won", one.wins), ("lost", one.losses))
            )
            title = f"{escape(name)}: {escape(one.other)} {len(one.wins)} won, {len(one.losses)} lost"
            blocks.append(f"<details><summary>{title}</summary>{lists}</details>")
    return "".join(blocks)


def _id_list(ids: Sequence[Any]) -> str:
    shown = ", ".join(str(identity) for identity in ids[:_LISTED_IDS])
    return f"{shown}, ... (all in the JSON document)" if len(ids) > _LISTED_IDS else shown or "none"


def _paper(rows: Sequence[PaperRow]) -> str:
    lines, names = [], benchmarks_of(rows)
    for row, cells in zip(rows, paper_cells(rows, names), strict=True):
        numbers = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells[2:])
        kind = ' class="front"' if row.kind == "run" else ""
        lines.append(f"<tr{kind}><td>{escape(cells[1])}</td><td>{escape(cells[0])}</td>{numbers}</tr>")
    head = paper_head(names)
    marks = "; ".join(f"{mark}: {text}" for mark, text in LEGEND.items())
    listed = "".join(f"<li>[{number}] {escape(note)}</li>" for note, number in footnotes(rows).items())
    return (
        table((head[1], head[0], *head[2:]), lines, frozenset(range(2, len(head))))
        + f'<p class="note">{_PAPER}{escape(marks)}. FLOPs: {escape(flops_convention())}.</p>'
        + f'<ul class="note" style="list-style:none;padding:0">{listed}</ul>'
    )
