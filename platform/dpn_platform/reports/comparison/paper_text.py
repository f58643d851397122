"""The cells of the paper's tables beside the user's runs, the same for terminal and page."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.reports.comparison.paper_table import PaperRow, footnotes, marked_method
from dpn_platform.reports.look.labels import NOT_MEASURED

_COLUMNS = {
    "gqa": "GQA",
    "scienceqa-img": "SQA",
    "textvqa": "VQA-T",
    "vqav2": "VQAv2",
    "mme": "MME",
    "mm-vet": "MMVet",
    "mmbench": "MMB",
    "mmmu": "MMMU",
    "seed-image": "SEED",
    "vizwiz": "VizWiz",
    "pope": "POPE",
}
_ONE_DECIMAL = ("table1", "table4")  # the other two print averages with two
_TELLS_APART = 0.06  # a printed average rounds by up to 0.05


def paper_head() -> tuple[str, ...]:
    """Column heads: table, method, the printed and the recomputed average, FLOPs by eq. 8, benchmarks."""
    return ("table", "method", "printed", "AVG", "GFLOPs", *_COLUMNS.values())


def paper_cells(rows: Sequence[PaperRow]) -> list[tuple[str, ...]]:
    """One row of text each; `!` marks a printed average that its own values do not give, [n] a note."""
    numbers = footnotes(rows)
    return [
        (
            row.table.removeprefix("table"),
            marked_method(row, numbers) + {"run": " (run)", "control": " (control)"}.get(row.kind, ""),
            _number(row.printed_avg, 1 if row.table in _ONE_DECIMAL else 2) + _misprint(row),
            _number(row.average, 2),
            _number(row.flops_g_eq8, 0),
            *(_score(row.scores.get(name), name) for name in _COLUMNS),
        )
        for row in rows
    ]


def _misprint(row: PaperRow) -> str:
    if row.printed_avg is None or row.average is None:
        return ""
    return "!" if abs(row.printed_avg - row.average) > _TELLS_APART else ""


def _score(value: float | None, benchmark: str) -> str:
    return _number(value, 0 if benchmark == "mme" else 1)


def _number(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
