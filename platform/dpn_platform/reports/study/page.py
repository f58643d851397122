"""The report as one HTML file that needs nothing else: figure, tables, gallery, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from dpn_platform.evaluation.pareto import front_points, hypervolume, knee
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.dynamic.proof import summary_of
from dpn_platform.reports.dynamic.tables import verdicts_table
from dpn_platform.reports.look.style import SCRIPT, embedded_png, html_document
from dpn_platform.reports.study.certainty import certainty_sentence, history_table, picks_table, seeds_table
from dpn_platform.reports.study.controls import cheapest_as_good_as_dense
from dpn_platform.reports.study.ended import TOLD, ended_sentence, ended_tables
from dpn_platform.reports.study.figure import figure_div
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.sections import claims_table, family_heatmap, losses_table, points_table, routes_figure
from dpn_platform.reports.study.summary import (
    claims_sentence,
    differences_sentence,
    facts,
    families_sentence,
    headline,
    interval_note,
    method_notes,
    questions,
)

_PROVENANCE = (
    ("command", "Command"),
    ("created", "Made"),
    ("duration_s", "Took (seconds)"),
    ("base", "Base model"),
    ("train_steps", "Optimiser steps per trial"),
    ("seed", "Seed"),
    ("data_uri", "Data"),
    ("data_fingerprint", "Data fingerprint"),
    ("config_fingerprint", "Config fingerprint"),
    ("code_version", "Code version"),
    ("versions", "Versions"),
)
_STATED_ELSEWHERE = {"split", "interval", *TOLD}


def report_page(record: StudyRecord, gallery: bytes | None) -> str:
    """The page's HTML. The same record and gallery give the same text."""
    body = "\n".join(
        part
        for part in (
            _top(record),
            _front_section(record),
            _certainty_section(record),
            _claims_section(record),
            _choice_section(record),
            _section("All points", differences_sentence(record), points_table(record)),
            _ended_section(record),
            _families_section(record),
            _routes_section(record),
            _gallery_section(record, gallery),
            _provenance_section(record),
        )
        if part
    )
    return html_document(f"{record.name}: Pareto front", body, SCRIPT)


def _section(title: str, lead: str | None, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{f'<p>{escape(lead)}</p>' if lead else ''}{content}"


def _top(record: StudyRecord) -> str:
    volume = hypervolume(record.points, convention=record.convention)
    tiles = "".join(
        f'<div class="fact"><b>{escape(value)}</b><span>{escape(what)}</span></div>'
        for value, what in facts(record, volume, questions(record))
    )
    address = record.mlflow_uri
    link = f' · <a href="{escape(address)}">in MLflow</a>' if address.startswith(("http://", "https://")) else ""
    return (
        f'<p class="kicker">Pareto front{link}</p><h1>{escape(record.name)}</h1>'
        f'<p class="lead">{escape(headline(record))}</p><div class="facts">{tiles}</div>'
    )


def _front_section(record: StudyRecord) -> str:
    note = f"{interval_note(record)}. Faded points are dominated. Hover for parameters; click a name to hide it."
    return f"<figure>{figure_div(record)}<figcaption class='note'>{escape(note)}</figcaption></figure>"


def _certainty_section(record: StudyRecord) -> str:
    """Which parts of the front would be there with other questions; what every extension has added."""
    if record.statistics is None:
        return ""
    tables = (picks_table, history_table, seeds_table)
    content = "".join(make(record.statistics) for make in tables)
    return _section("How sure the front is", certainty_sentence(record.statistics), content)


def _claims_section(record: StudyRecord) -> str:
    return _section("Against the controls", claims_sentence(record), claims_table(record)) if record.claims else ""


def _choice_section(record: StudyRecord) -> str:
    """Of points that were measured on each of their routes; `dpn report dynamic` has the whole proof."""
    if not record.proofs:
        return ""
    lead = f"{summary_of(record.proofs)}. Each is held against what a coin would do at the same mean cost."
    return _section("Choice per sample", lead, verdicts_table(record.proofs))


def _families_section(record: StudyRecord) -> str:
    text = "Accuracy in percent. Hover for the interval. Families that lose most to static pooling first."
    note = f'<p class="note">{text}</p>'
    return _section(
        "Question families", families_sentence(record), losses_table(record) + family_heatmap(record) + note
    )


def _ended_section(record: StudyRecord) -> str:
    tables = ended_tables(record.meta)
    return _section("Trials that ended early", ended_sentence(record.meta) or "None did.", tables) if tables else ""


def _routes_section(record: StudyRecord) -> str:
    shown = featured_with_routes(record)
    if not shown:
        return ""
    blocks = []
    for index, point in enumerate(shown):
        state = " open" if index == 0 else ""
        blocks.append(f"<details{state}><summary>{escape(point.name)}</summary>{routes_figure(point)}</details>")
    lead = "The pooling kernel (height x width) chosen at each site, by family, as counted during evaluation."
    return _section("Routes taken", lead, "".join(blocks))


def featured_with_routes(record: StudyRecord) -> list[Point]:
    """Points that chose between routes: the gallery's first, the knee, the cheapest equal of dense, then the front."""
    by_name = {point.name: point for point in record.points}
    first: Sequence[Point | None] = (
        by_name.get(record.examples_point or ""),
        knee(record.points, record.convention),
        cheapest_as_good_as_dense(record.points, record.convention),
        *front_points(record.points, record.convention),
        *record.points,
    )
    ordered = {point.name: point for point in first if point is not None}
    return [
        point for point in ordered.values() if len({route for routes in point.routes.values() for route in routes}) > 1
    ]


def _gallery_section(record: StudyRecord, gallery: bytes | None) -> str:
    if gallery is None:
        return ""
    description = "Sample images with the grid of visual tokens after each site, the question and the model's answer"
    return _section("Samples", None, embedded_png(gallery, description))


def _provenance_section(record: StudyRecord) -> str:
    known = [(label, record.meta[key]) for key, label in _PROVENANCE if record.meta.get(key) not in (None, "", {})]
    labelled = {key for key, _ in _PROVENANCE} | _STATED_ELSEWHERE
    known += [(key, value) for key, value in sorted(record.meta.items()) if key not in labelled]
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(_plain(value))}</dd>" for label, value in known)
    notes = "".join(f"<li>{escape(note)}</li>" for note in method_notes(record))
    provenance = f"<h2>Provenance</h2><dl>{rows}</dl>" if rows else ""
    return f"{provenance}<footer><h2>How this was measured</h2><ul>{notes}</ul></footer>"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
