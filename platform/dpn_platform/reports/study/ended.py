"""Trials that ended early: which and why, what that has saved, and how well what they were judged by foretells."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from dpn_platform.reports.look.tables import table

_WORDS = {"loss": "held-out loss", "exact": "exact answers", "kl": "KL from dense"}
#: keys of a study's meta that are told here
TOLD = ("stopped", "stopping", "proxies")


def ended_sentence(meta: Mapping[str, Any]) -> str:
    """How many ended and what that has saved; nothing where none did."""
    stopped, found = meta.get("stopped") or {}, meta.get("stopping")
    if not stopped:
        return ""
    text = f"{len(stopped)} trials of the search ended early and have no point"
    if found is None:
        return f"{text}."
    return (
        f"{text}. Had each taken as long as one that ran to its end, they would have taken about "
        f"{found['saved_device_hours']:.2f} device-hours more; the whole study took {found['device_hours']:.2f}."
    )


def ended_tables(meta: Mapping[str, Any]) -> str:
    """Why each ended; the rank correlation of each measure with the accuracy that finished trials came to."""
    rows = [
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>"
        for name, reason in (meta.get("stopped") or {}).items()
    ]
    return (table(("trial", "why"), rows) if rows else "") + _measures(meta.get("proxies") or {})


def _measures(proxies: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for step, measured in proxies.items():
        values = [measured.get(name) for name in _WORDS]
        cells = "".join(
            f'<td class="number">{"not known" if value is None else f"{value:+.2f}"}</td>' for value in values
        )
        rows.append(
            f'<tr><td class="number">{escape(step)}</td><td class="number">{measured["trials"]}</td>{cells}</tr>'
        )
    if not rows:
        return ""
    lead = "Rank correlation of what was measured at a step with the accuracy in the end; +1 foretells it wholly."
    head = ("step", "trials", *_WORDS.values())
    return f"<p>{lead}</p>{table(head, rows, frozenset(range(5)))}"
