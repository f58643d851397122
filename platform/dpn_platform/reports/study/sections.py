"""The tables of the page as HTML: all points, accuracy per family, routes per family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from dpn_platform.evaluation.pareto import dominated_by, flops_ratio, pareto_front
from dpn_platform.evaluation.points import Convention, FamilyScore, Point
from dpn_platform.reports.look.labels import (
    common_params,
    conventions_shown,
    interval,
    percent,
    ratio,
    route_steps,
    route_text,
    seeds_text,
    short_params,
    signed_points,
)
from dpn_platform.reports.look.methods import is_yardstick
from dpn_platform.reports.look.tables import change_cell, table
from dpn_platform.reports.study.certainty import share_text
from dpn_platform.reports.study.controls import (
    against_dense,
    dense_control,
    families_of,
    family_losses,
    is_above_guessing,
    strongest_static,
)
from dpn_platform.reports.study.difference import Claim, Difference
from dpn_platform.reports.study.record import StudyRecord

_ROUTE_COLOURS = ("#0f766e", "#1d4ed8", "#b45309", "#7c3aed", "#be185d", "#4d7c0f", "#0e7490", "#9f1239")
_OTHER_COLOUR = "#64748b"
_NAMED_SHARE = 0.12  # a narrower bar segment has no room for its name


def points_table(record: StudyRecord) -> str:
    """Every point with its interval, both FLOPs conventions and its difference to the dense control."""
    flags = pareto_front(record.points, record.convention)
    winners = dominated_by(record.points, record.convention)
    changes = against_dense(record.points)
    order = sorted(
        range(len(record.points)),
        key=lambda i: (-flops_ratio(record.points[i], record.convention), record.points[i].name),
    )
    dense, common = dense_control(record.points), common_params(record.points)
    shown = [short_params(point.params, () if point.is_control else common) for point in record.points]
    conventions = conventions_shown(record.convention)
    shares = {} if record.statistics is None else record.statistics.membership
    rows = [
        _point_row(point, shown[i], flags[i], winners[i], changes.get(point.name), point is dense, conventions)
        + (f'<td class="number">{escape(share_text(shares.get(point.name)))}</td></tr>' if shares else "</tr>")
        for i, point in ((i, record.points[i]) for i in order)
    ]
    costs = [f"FLOPs {name}" for name in conventions]
    head = (
        "point",
        "parameters",
        "accuracy %",
        *costs,
        "visual tokens",
        "against dense",
        "front",
        *(["on it in draws"] * bool(shares)),
    )
    note = f'<p class="note">All points of the search: {escape(short_params(common))}</p>' if common else ""
    return table(head, rows, frozenset(range(2, 4 + len(conventions)))) + note


def _point_row(
    point: Point,
    params: str,
    on_front: bool,
    winners: Sequence[str],
    change: Difference | None,
    is_reference: bool,
    conventions: Sequence[Convention],
) -> str:
    control = ' <span class="chip">control</span>' if point.is_control and is_yardstick(point.method) else ""
    accuracy = f"{percent(point.accuracy)}<br><small>{interval(point.accuracy_ci)}{seeds_text(point, '<br>')}</small>"
    costs = (*(ratio(flops_ratio(point, name)) for name in conventions), ratio(point.visual_tokens_mean, 1))
    numbers = "".join(f'<td class="number">{text}</td>' for text in (accuracy, *costs))
    compared = "" if change is None else change_cell(*change)
    if is_reference:
        compared = "<small>the yardstick</small>"
    place = (
        "on it"
        if on_front
        else f"<small>under {escape(winners[0])}</small>"
        if winners
        else "<small>not measured</small>"
    )
    return (
        f'<tr class="{"front" if on_front else "dominated"}"><td>{escape(point.name)}{control}</td>'
        f"<td><code>{escape(params)}</code></td>{numbers}<td>{compared}</td><td>{place}</td>"
    )


def claims_table(record: StudyRecord) -> str:
    """Every point that is no control against the best mixture of controls at its cost; the largest gain first."""
    rows = [
        f'<tr><td>{escape(claim.point)}</td><td class="number">{ratio(claim.cost)}</td>'
        f"<td>{escape(_shares(claim))}</td><td>{change_cell(*claim.change)}</td></tr>"
        for claim in sorted(record.claims, key=lambda one: (-one.change.value, one.point))
    ]
    head = ("point", f"FLOPs {record.convention}", "best controls at that cost", "against them")
    return table(head, rows, frozenset({1}))


def _shares(claim: Claim) -> str:
    """`uniform_grid-at-0.333 70%, dense 30%`."""
    if claim.against != "controls":
        return f"{claim.against} ({len(claim.controls)} of them)"
    if len(claim.controls) == 1:
        return next(iter(claim.controls))
    return ", ".join(f"{name} {share:.0%}" for name, share in claim.controls.items())


def family_heatmap(record: StudyRecord) -> str:
    """Accuracy per family and point; families that lose most under static pooling first."""
    families = families_of(record.points)
    scores = [score.accuracy for point in record.points for score in point.per_family.values()]
    if not scores:
        return '<p class="quiet">No accuracy per family was recorded.</p>'
    low, high = min(scores), max(scores)
    order = sorted(record.points, key=lambda point: (-flops_ratio(point, record.convention), point.name))
    rows = []
    for point in order:
        cells = "".join(_heat_cell(point.per_family.get(family), low, high) for family in families)
        cost = ratio(flops_ratio(point, record.convention), 2)
        rows.append(f'<tr><td>{escape(point.name)}</td><td class="number">{cost}</td>{cells}</tr>')
    return table(("point", "FLOPs", *families), rows, frozenset({1}))


def _heat_cell(score: FamilyScore | None, low: float, high: float) -> str:
    if score is None:
        return '<td class="heat"></td>'
    strength = 0.06 + 0.5 * (score.accuracy - low) / (high - low or 1.0)
    guessing = " <small>≈ guessing</small>" if is_above_guessing(score) is False else ""
    title = f"{interval(score.ci)}, n = {score.n}"
    return (
        f'<td class="heat" style="background:rgba(var(--heat),{strength:.2f})" title="{title}">'
        f"{percent(score.accuracy)}{guessing}</td>"
    )


def losses_table(record: StudyRecord) -> str:
    """What static compression costs each family, with intervals, largest loss first."""
    dense, static = dense_control(record.points), strongest_static(record.points)
    if dense is None or static is None:
        return ""
    losses = family_losses(dense, static)
    largest = max((item.loss.value for item in losses), default=0.0)
    rows = []
    for item in losses:
        width = 100 * max(0.0, item.loss.value) / (largest or 1.0)
        bounds = f"{signed_points(item.loss.low)} to {signed_points(item.loss.high)}"
        bar = f'<div style="background:rgba(var(--loss),.75);height:12px;border-radius:4px;width:{width:.1f}%"></div>'
        numbers = (percent(item.dense), percent(item.compressed), signed_points(-item.loss.value))
        cells = "".join(f'<td class="number">{text}</td>' for text in numbers)
        note = "" if item.loss.is_resolved else ' <span class="chip">inside interval</span>'
        what = f"<td>{escape(item.family)}</td>{cells}<td><small>{bounds}</small>{note}</td>"
        rows.append(f'<tr>{what}<td style="width:32%">{bar}</td></tr>')
    head = ("family", f"{dense.name} %", f"{static.name} %", "change", "interval of the loss", "")
    return table(head, rows, frozenset({1, 2, 3}))


def routes_figure(point: Point) -> str:
    """Share of each route per family as stacked bars, the same colour for a route everywhere."""
    totals: dict[str, int] = {}
    for counts in point.routes.values():
        for route, count in counts.items():
            totals[route] = totals.get(route, 0) + count
    ranked = sorted(totals, key=lambda route: (-totals[route], route))
    colours = {route: _ROUTE_COLOURS[i] if i < len(_ROUTE_COLOURS) else _OTHER_COLOUR for i, route in enumerate(ranked)}
    rows = [
        f"<tr><td>{escape(family)}</td><td>{_route_bar(point.routes[family], ranked, colours)}</td></tr>"
        for family in sorted(point.routes)
    ]
    named = [route for route in ranked if colours[route] != _OTHER_COLOUR]
    keys = [f'<li><i style="background:{colours[route]}"></i>{escape(route_text(route))}</li>' for route in named]
    keys += [f'<li><i style="background:{_OTHER_COLOUR}"></i>rarer routes</li>'] if len(named) < len(ranked) else []
    return f'<ul class="legend">{"".join(keys)}</ul>' + table(("family", "share of questions"), rows)


def _route_bar(counts: Mapping[str, int], ranked: Sequence[str], colours: Mapping[str, str]) -> str:
    total = sum(counts.values()) or 1
    pieces = []
    for route in ranked:
        share = counts.get(route, 0) / total
        if share:
            name = " ".join(route_steps(route)) if share >= _NAMED_SHARE else ""
            pieces.append(
                f'<span style="width:{100 * share:.2f}%;background:{colours[route]}" '
                f'title="{escape(route_text(route))}: {100 * share:.1f}%">{escape(name)}</span>'
            )
    return f'<div class="bar">{"".join(pieces)}</div>'
