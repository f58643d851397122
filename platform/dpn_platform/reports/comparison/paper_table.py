"""The paper's tables 1 to 4 and the user's runs as one table: averages and FLOPs recomputed, misprints marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpn_platform.reports.comparison.recount import Recount
from dpn_platform.reports.comparison.reference_tables import (
    Corrected,
    ReferenceRow,
    average,
    published_controls,
    reference_tables,
)

Scores = Mapping[str, float | None]

PRINTED, CONTROL, RUN = "printed", "control", "run"


@dataclass(frozen=True)
class PaperRow:
    """One row. What others report and what was measured here are never in one field.

    Attributes:
        table: table1 ... table4.
        kind: printed in the paper, a published control, or a run of the user.
        measured: scores of a run.
        average: what the row's own values give by the table's recipe; None where a column is missing.
        corrected_average: the same with the corrected values; None where nothing is corrected, or to no known value.
        counted_as: what `recounted_flops_g` is of.
        notes: findings and notes of a printed row.
        reported, corrected, reported_avg, reported_flops_g: as in `ReferenceRow`.
    """

    table: str
    kind: str
    method: str
    reported: Mapping[str, float] = field(default_factory=dict)
    corrected: Mapping[str, Corrected] = field(default_factory=dict)
    measured: Scores = field(default_factory=dict)
    reported_avg: float | None = None
    average: float | None = None
    corrected_average: float | None = None
    reported_flops_g: float | None = None
    recounted_flops_g: Recount | None = None
    counted_as: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain values; `recounted_flops_g` as {cheapest, dearest}, or null where it is not counted."""
        recounted = self.recounted_flops_g
        return {
            **vars(self),
            "corrected": {name: one._asdict() for name, one in self.corrected.items()},
            "recounted_flops_g": None if recounted is None else recounted._asdict(),
            "notes": list(self.notes),
        }


def paper_rows(runs: Mapping[str, Scores]) -> list[PaperRow]:
    """Every table's printed rows, then the runs with that table's average; table 1 with the published controls."""
    rows: list[PaperRow] = []
    for table, printed in reference_tables().items():
        rows += [_reference(table, PRINTED, row) for row in printed]
        if table == "table1":
            rows += [_reference(table, CONTROL, row) for row in published_controls()]
        rows += [
            PaperRow(table, RUN, name, measured=scores, average=average(scores, table)) for name, scores in runs.items()
        ]
    return rows


def footnotes(rows: Sequence[PaperRow]) -> dict[str, int]:
    """Note -> its number, in the order of the rows."""
    notes = [note for row in rows for note in row.notes]
    return {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)}


def marked_method(row: PaperRow, numbers: Mapping[str, int]) -> str:
    """The method's name, whose it is if not the paper's, and the numbers of its notes: `RoE-LLaVA [3]`."""
    marks = ",".join(str(numbers[note]) for note in row.notes)
    return row.method + ("" if row.kind == PRINTED else f" ({row.kind})") + (f" [{marks}]" if marks else "")


def _reference(table: str, kind: str, row: ReferenceRow) -> PaperRow:
    right = {**row.reported, **{name: one.value for name, one in row.corrected.items()}}
    return PaperRow(
        table,
        kind,
        row.method,
        reported=row.reported,
        corrected=row.corrected,
        reported_avg=row.reported_avg,
        average=average(row.reported, table),
        corrected_average=average(right, table) if row.corrected else None,
        reported_flops_g=row.reported_flops_g,
        recounted_flops_g=row.recounted,
        counted_as=row.counted_as,
        notes=row.remarks,
    )
