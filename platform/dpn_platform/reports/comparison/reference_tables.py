"""The paper's tables 1 to 4 as data, and its averages as named recipes, so that any run can be set beside them.

What the paper reports is as printed, misprints included. What is known to be wrong stands beside it, with the finding
that says so and the evidence for it; FLOPs are counted anew from the methods' own plans, never typed in. A row whose
method or base is not known here is not counted, until `counted_as` names one that is. Source: spec base-models A.2
and A.2.1, benchmarks 4, peer-methods 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from dpn_platform.config.errors import DpnError
from dpn_platform.reports.comparison.recount import Recount, recount


class Corrected(NamedTuple):
    """What should stand in the place of a printed score.

    Attributes:
        value: None where the printed one is wrong and no right one is known.
        finding: of `findings()`.
        evidence: a key of `evidence_kinds()`.
    """

    value: float | None
    finding: str
    evidence: str


class Finding(NamedTuple):
    """What an audit of the tables found: keys of `evidence_kinds()`, and one sentence."""

    evidence: str
    text: str


@dataclass(frozen=True)
class ReferenceRow:
    """One printed row.

    Attributes:
        reported: benchmark -> value as printed (MME: points); what was not printed is left out.
        reported_avg: the average as printed; `average(reported, recipe)` is what the values give.
        reported_flops_g: 10^9 multiply-accumulates as printed.
        corrected: benchmark -> what should stand there.
        counted_as: "base", "method" and "settings" that `recounted` is of; None: not a model of this platform's.
        findings: id -> what it says of this row.
        notes: other misprints and contradictions.
        more: whatever else the row says: params, samples_per_second, visual_tokens, flops ratios.
    """

    method: str
    reported: Mapping[str, float]
    reported_avg: float | None
    reported_flops_g: float | None = None
    corrected: Mapping[str, Corrected] = field(default_factory=dict)
    counted_as: Mapping[str, Any] | None = None
    findings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recounted(self) -> Recount | None:
        """Its FLOPs by this platform's account in the paper's convention (`flops_convention`); None: not counted."""
        return recount(self.counted_as) if self.counted_as else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Findings with their ids, evidence and corrected values, then notes."""
        told = []
        for key, text in self.findings.items():
            right = [f"{name} {one.value}" for name, one in self.corrected.items() if one.finding == key and one.value]
            values = f" ({', '.join(right)})" if right else ""
            told.append(f"{key} [{findings()[key].evidence}]: {text}{values}")
        return (*told, *self.notes)


@cache
def findings() -> dict[str, Finding]:
    """Id -> finding of the tables' audit."""
    return {key: Finding(**one) for key, one in _document()["findings"].items()}


def evidence_kinds() -> dict[str, str]:
    """What the evidence of a finding or a corrected value is: key -> in words."""
    return dict(_document()["evidence"])


def flops_convention() -> str:
    """In what the reported and the recounted FLOPs are counted."""
    return str(_document()["flops_convention"])


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
    values = dict(row)
    corrected = {name: Corrected(**one) for name, one in values.pop("corrected", {}).items()}
    notes = tuple(values.pop("notes", ()))
    named = {key: values.pop(key) for key in list(values) if key in ReferenceRow.__dataclass_fields__}
    return ReferenceRow(**named, corrected=corrected, notes=notes, more=values)


@cache
def _document() -> dict[str, Any]:
    text = files("dpn_platform.reports.comparison").joinpath("reference_tables.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
