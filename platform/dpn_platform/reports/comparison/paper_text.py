"""The cells of the paper's tables beside the user's runs, the same for terminal and page."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.reports.comparison.paper_table import RUN, PaperRow, footnotes, marked_method
from dpn_platform.reports.look.labels import NOT_MEASURED

COLUMNS = {
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
NOT_COUNTED = "not counted"
#: what the marks in the cells mean
LEGEND = {
    "!": "printed, but not what the row's source, values or settings give",
    "( )": "what should stand there; ? where that is not known",
    "recounted": "FLOPs by this platform's account, from the cheapest to the dearest route where samples differ",
    "[n]": "notes",
}
_ONE_DECIMAL = ("table1", "table4")  # the other two print averages with two
_TELLS_APART = 0.06  # a printed average rounds by up to 0.05


def benchmarks_of(rows: Sequence[PaperRow]) -> list[str]:
    """Benchmarks that the paper's rows among these report, in the order of `COLUMNS`."""
    return [name for name in COLUMNS if any(name in row.reported for row in rows)]


def paper_head(benchmarks: Sequence[str]) -> tuple[str, ...]:
    """Column heads: table, method, averages (printed, recomputed), FLOPs by eq. 8 (printed, counted), benchmarks."""
    return ("table", "method", "printed", "AVG", "GFLOPs", "recounted", *(COLUMNS[name] for name in benchmarks))


def paper_cells(rows: Sequence[PaperRow], benchmarks: Sequence[str]) -> list[tuple[str, ...]]:
    """One row of text each, with the marks of `LEGEND`."""
    numbers = footnotes(rows)
    return [
        (
            row.table.removeprefix("table"),
            marked_method(row, numbers),
            *cost_and_average(row),
            *(score_text(row, name) + "!" * (name in row.corrected) for name in benchmarks),
        )
        for row in rows
    ]


def cost_and_average(row: PaperRow) -> tuple[str, str, str, str]:
    """The average as printed and recomputed, FLOPs as printed and counted."""
    printed = _number(row.reported_avg, 1 if row.table in _ONE_DECIMAL else 2)
    if row.reported_avg is not None and row.average is not None:
        printed += "!" if abs(row.reported_avg - row.average) > _TELLS_APART else ""
    mean = _number(row.average, 2)
    if row.average is not None and row.corrected:
        mean += f" ({'?' if row.corrected_average is None else _number(row.corrected_average, 2)})"
    flops, counted = _number(row.reported_flops_g, 0), row.recounted_flops_g
    if counted is None:
        return printed, mean, flops, NOT_MEASURED if row.kind == RUN else NOT_COUNTED
    if row.reported_flops_g is not None and not counted.allows(row.reported_flops_g):
        flops += "!"
    ends = [_number(end, 1) for end in dict.fromkeys(counted)]
    return printed, mean, flops, " to ".join(ends)


def score_text(row: PaperRow, benchmark: str) -> str:
    """A score as reported, or as measured in a run."""
    if row.kind == RUN:
        return _number(row.measured.get(benchmark), 0 if benchmark == "mme" else 1)
    return _as_printed(row.reported.get(benchmark), benchmark)


def corrected_text(row: PaperRow, benchmark: str) -> str:
    """What should stand in a score's place, with finding and evidence; nothing where the score is right."""
    if (right := row.corrected.get(benchmark)) is None:
        return ""
    value = "?" if right.value is None else _as_printed(right.value, benchmark)
    return f"({value}, {right.finding} [{right.evidence}])"


def _as_printed(value: float | None, benchmark: str) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value:g}" if benchmark == "mme" else str(float(value))


def _number(value: float | None, digits: int) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}"
