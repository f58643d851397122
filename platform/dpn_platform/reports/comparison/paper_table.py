"""The paper's tables 1 to 4 and the user's runs as one table: averages recomputed, misprints marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpn_platform.reports.comparison.reference_tables import (
    ReferenceRow,
    average,
    published_controls,
    reference_tables,
)

Scores = Mapping[str, float | None]

PRINTED, CONTROL, RUN = "printed", "control", "run"


@dataclass(frozen=True)
class PaperRow:
    """One row.

    Attributes:
        table: table1 ... table4.
        kind: printed in the paper, a published control, or a run of the user.
        average: what the row's own values give by the table's recipe; None where a column is missing.
        notes: misprints and contradictions of a printed row.
    """

    table: str
    kind: str
    method: str
    scores: Scores
    printed_avg: float | None
    average: float | None
    notes: tuple[str, ...] = ()
    flops_g_eq8: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as plain values."""
        return {**vars(self), "scores": dict(self.scores), "notes": list(self.notes)}


def paper_rows(runs: Mapping[str, Scores]) -> list[PaperRow]:
    """Every table's printed rows, then the runs with that table's average; table 1 with the published controls."""
    rows: list[PaperRow] = []
    for table, printed in reference_tables().items():
        rows += [_reference(table, PRINTED, row) for row in printed]
        if table == "table1":
            rows += [_reference(table, CONTROL, row) for row in published_controls()]
        rows += [PaperRow(table, RUN, name, scores, None, average(scores, table)) for name, scores in runs.items()]
    return rows


def footnotes(rows: Sequence[PaperRow]) -> dict[str, int]:
    """Note -> its number, in the order of the rows."""
    notes = [note for row in rows for note in row.notes]
    return {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)}


def marked_method(row: PaperRow, numbers: Mapping[str, int]) -> str:
    """The method's name with the numbers of its notes: `RoE-LLaVA [3]`."""
    marks = ",".join(str(numbers[note]) for note in row.notes)
    return f"{row.method} [{marks}]" if marks else row.method


def _reference(table: str, kind: str, row: ReferenceRow) -> PaperRow:
    return PaperRow(
        table,
        kind,
        row.method,
        row.scores,
        row.printed_avg,
        average(row.scores, table),
        row.notes,
        row.more.get("flops_g_eq8"),
    )
