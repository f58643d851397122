"""The paper's tables 1 to 3 as a Markdown page: reported, corrected and recounted side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dpn_platform.reports.comparison.paper_table import PaperRow, footnotes, marked_method, paper_rows
from dpn_platform.reports.comparison.paper_text import (
    COLUMNS,
    LEGEND,
    NOT_COUNTED,
    benchmarks_of,
    corrected_text,
    cost_and_average,
    score_text,
)
from dpn_platform.reports.comparison.reference_tables import evidence_kinds, findings, flops_convention

_TITLES = {
    "table1": "Table 1: main results",
    "table2": "Table 2: projectors on LLaVA-1.5-7B",
    "table3": "Table 3: kernels and layers on LLaVA-1.5-7B",
}
_LEAD = """# The paper's tables, audited

What arXiv 2503.20322 reports, what is known to be wrong in it, and its FLOPs counted anew from the methods' own plans.
Nothing here was measured on this platform: `dpn report compare RUNS --paper` sets runs beside these rows.
`dpn report paper` prints this page, and a test holds it against what is stored.
"""


def audit_document() -> dict[str, Any]:
    """The same as plain values, every row of tables 1 to 4."""
    return {
        "flops_convention": flops_convention(),
        "evidence": evidence_kinds(),
        "findings": {key: one._asdict() for key, one in findings().items()},
        "rows": [row.to_json() for row in paper_rows({})],
    }


def audit_page() -> str:
    """The page's Markdown; the same tables and methods give the same text."""
    marks = {**LEGEND, "counted as": f'what `dpn flops --method` takes; "{NOT_COUNTED}" for want of method or base'}
    parts = [_LEAD, f"FLOPs: {flops_convention()}.\n", *(f"* {mark}: {text}" for mark, text in marks.items()), ""]
    for table, title in _TITLES.items():
        rows = [row for row in paper_rows({}) if row.table == table]
        notes = [f"* [{number}] {note}\n" for note, number in footnotes(rows).items()]
        parts += [f"## {title}\n", _table(rows), "".join(notes)]
    parts += ["## Findings\n", "| | evidence | |", "| --- | --- | --- |"]
    parts += [f"| {key} | {one.evidence} | {one.text} |" for key, one in findings().items()]
    parts += ["", "Evidence: " + "; ".join(f"{key}, {text}" for key, text in evidence_kinds().items()) + "."]
    return "\n".join(parts) + "\n"


def _table(rows: Sequence[PaperRow]) -> str:
    numbers, benchmarks = footnotes(rows), benchmarks_of(rows)
    costs = ("AVG printed", "AVG recomputed", "GFLOPs printed", "GFLOPs recounted", "counted as")
    head = ["method", *(COLUMNS[name] for name in benchmarks), *costs]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        scores = [f"{score_text(row, name)} {corrected_text(row, name)}".rstrip() for name in benchmarks]
        lines.append([marked_method(row, numbers), *scores, *cost_and_average(row), _counted_as(row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _counted_as(row: PaperRow) -> str:
    if row.counted_as is None:
        return ""
    words = [row.counted_as["method"]]
    for key, value in row.counted_as["settings"].items():
        words.append(f"method.{key}={json.dumps(value, separators=(',', ':'))}".replace('"', ""))
    return f"{row.counted_as['base']}: `{' '.join(words)}`"
