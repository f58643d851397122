"""The front as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from dpn_platform.evaluation.pareto import REFERENCE, flops_ratio, hypervolume, pareto_front
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.dynamic.proof import summary_of
from dpn_platform.reports.look.labels import (
    common_params,
    conventions_shown,
    interval,
    percent,
    ratio,
    short_params,
    signed_points,
)
from dpn_platform.reports.look.methods import is_yardstick
from dpn_platform.reports.study.controls import against_dense, dense_control
from dpn_platform.reports.study.difference import Difference
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import claims_sentence, interval_note

_MOST_ROWS = 40
#: of what the search proposed; of more, the front alone is read
_MOST_SEARCHED = 120


def front_table(record: StudyRecord) -> Table:
    """All points, dearest first: `●` marks the front, dominated ones are dim, `~` a difference inside its interval."""
    common = common_params(record.points)
    table = _empty_table(record, short_params(common))
    points = record.points
    flags = dict(zip((point.name for point in points), pareto_front(points, record.convention), strict=True))
    changes = against_dense(points)
    dense, shown_costs = dense_control(points), conventions_shown(record.convention)
    for point in sorted(_shown(record, flags), key=lambda point: (-flops_ratio(point, record.convention), point.name)):
        on_front = flags[point.name]
        cells = (
            "●" if on_front else "",
            point.name,
            percent(point.accuracy),
            interval(point.accuracy_ci),
            "0" if point is dense else _change(changes.get(point.name)),
            *(ratio(flops_ratio(point, name), 3 - (place > 0)) for place, name in enumerate(shown_costs)),
            ratio(point.visual_tokens_mean, 1),
            short_params(point.params, () if point.is_control else common),
        )
        # Text, not markup: a parameter may hold square brackets.
        shown = [Text(cell) for cell in cells[: len(table.columns)]]
        table.add_row(*shown, style="bold green" if on_front else "dim")
    return table


def _shown(record: StudyRecord, flags: dict[str, bool]) -> list[Point]:
    """All points; of very many the front, the search's own and the controls that claims are held against.

    Of a search that proposed very many, those on the front alone.
    """
    if len(record.points) <= _MOST_ROWS:
        return list(record.points)
    is_long = sum(not point.is_control for point in record.points) > _MOST_SEARCHED
    return [
        point
        for point in record.points
        if flags[point.name]
        or (not point.is_control and not is_long)
        or (is_yardstick(point.method) and point.on is None)
    ]


def _empty_table(record: StudyRecord, common: str) -> Table:
    """The columns, narrow enough for a terminal of 80, and what to know below them."""
    volume = hypervolume(record.points, convention=record.convention)
    corner = f"accuracy {REFERENCE.accuracy:g}, ratio {REFERENCE.flops_ratio:g}"
    is_cut, ratios = len(record.points) > _MOST_ROWS, ", ".join(conventions_shown(record.convention))
    notes = [
        *([f"{len(record.points)} points in all; those that are not shown are in the report"] * is_cut),
        f"● on the front   ~ difference inside its interval   {ratios}: FLOPs ratios",
        *([f"all points of the search: {common}"] if common else []),
        *([told] if (told := claims_sentence(record)) else []),
        *([f"choice per sample, {summary_of(record.proofs)}"] if record.proofs else []),
        interval_note(record),
        f"hypervolume {volume:.4f} ({record.convention}, from {corner})",
    ]
    table = Table(
        title=f"Pareto front of {record.name}",
        title_justify="left",
        title_style="bold",
        caption=Text("\n".join(notes)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    table.add_column("point", overflow="fold")
    for name in ("acc %", "interval", "Δ dense", *conventions_shown(record.convention), "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    if not is_cut:  # their names tell them apart
        table.add_column("parameters", overflow="fold")
    return table


def _change(change: Difference | None) -> str:
    if change is None:
        return ""
    return signed_points(change.value) + (" " if change.is_resolved else "~")
