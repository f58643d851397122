"""The paper's tables 1 to 4 as data, and its averages as named recipes, so that any run can be set beside them.

The values are as printed, misprints included; `notes` say where a row contradicts itself or its source. Source: spec
base-models A.2 and A.2.1, benchmarks 4, peer-methods 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from dpn_platform.config.errors import DpnError


@dataclass(frozen=True)
class ReferenceRow:
    """One printed row.

    Attributes:
        scores: benchmark -> value as printed (MME: points); what was not printed is left out.
        printed_avg: the average as printed; `average(scores, recipe)` is what the values give.
        notes: known misprints and contradictions.
        more: whatever else the row says: params, flops_g_eq8, samples_per_second, visual_tokens, flops ratios.
    """

    method: str
    scores: Mapping[str, float]
    printed_avg: float | None
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@cache
def reference_tables() -> dict[str, tuple[ReferenceRow, ...]]:
    """`table1` (main), `table2` (projectors), `table3` (structure), `table4` (components), rows as printed."""
    return {name: tuple(_row(row) for row in rows) for name, rows in _document()["tables"].items()}


@cache
def published_controls() -> tuple[ReferenceRow, ...]:
    """Uncompressed models that table 1 leaves out and its gains must be held against (peer-methods 0, A8)."""
    return tuple(_row(row) for row in _document()["controls"])


@cache
def average_recipes() -> dict[str, dict[str, float]]:
    """Recipe -> benchmark -> divisor of its score. `table1` is a mean of eight with MME/20, without MMMU and SEED."""
    return {name: dict(columns) for name, columns in _document()["recipes"].items()}


def average(scores: Mapping[str, float | None], recipe: str | Mapping[str, float] = "table1") -> float | None:
    """The mean of a recipe's columns; None when a column is missing, for another mean is not comparable.

    Args:
        scores: benchmark -> score, as `dpn score` gives them.
        recipe: a name of `average_recipes`, or a smaller recipe of the caller's: benchmark -> divisor.

    Raises:
        DpnError: no recipe of that name.
    """
    if isinstance(recipe, str) and recipe not in average_recipes():
        raise DpnError(f"average recipe '{recipe}' is unknown; allowed are {', '.join(average_recipes())}")
    columns = average_recipes()[recipe] if isinstance(recipe, str) else recipe
    values = [(scores.get(name), divisor) for name, divisor in columns.items()]
    present = [value / divisor for value, divisor in values if value is not None]
    return sum(present) / len(columns) if columns and len(present) == len(columns) else None


def _row(row: Mapping[str, Any]) -> ReferenceRow:
    named = {"method", "scores", "printed_avg", "notes"}
    return ReferenceRow(
        row["method"],
        row["scores"],
        row["printed_avg"],
        tuple(row.get("notes", ())),
        {key: value for key, value in row.items() if key not in named},
    )


@cache
def _document() -> dict[str, Any]:
    text = files("dpn_platform.reports.comparison").joinpath("reference_tables.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
