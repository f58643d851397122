"""Tables of pages as HTML, and the cell that every difference with its interval is shown in."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dpn_platform.reports.look.labels import signed_points


def table(head: Sequence[str], rows: Sequence[str], numeric: frozenset[int] = frozenset()) -> str:
    """An HTML table from finished row strings; `numeric` columns have right-aligned heads."""
    cells = "".join(
        f'<th class="number">{escape(text)}</th>' if index in numeric else f"<th>{escape(text)}</th>"
        for index, text in enumerate(head)
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def change_cell(value: float, low: float, high: float) -> str:
    """A difference of accuracies (fractions) in points, whether its interval leaves out zero, and the interval."""
    kind, word = ("good", "above") if low > 0 else ("bad", "below") if high < 0 else ("", "inside interval")
    chip = f'<span class="chip {kind}">{word}</span>'
    bounds = f"{signed_points(low)} to {signed_points(high)}"
    return f'<span class="nowrap">{signed_points(value)} {chip}</span><br><small>{bounds}</small>'
