"""Proofs as tables of a page: verdicts first, then what they rest on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from dpn_platform.reports.dynamic.proof import WORDS, Against, Gain, Proof
from dpn_platform.reports.look.labels import NOT_MEASURED, interval, percent, ratio, route_text, signed_points
from dpn_platform.reports.look.tables import change_cell, table

_COMPARED: tuple[tuple[Against, str], ...] = (
    ("own routes mixed", "over static mixture"),
    ("trained pyramids", "over trained pyramids"),
    ("own routes shuffled", "over routes shuffled"),
    ("shuffled within groups", "shuffled within"),
)
Cells = Callable[[Proof], Sequence[str] | None]


def verdicts_table(proofs: Sequence[Proof]) -> str:
    """Every point with its differences, their intervals, and whether it is shown to be dynamic."""
    shown = [one for one in _COMPARED if any(proof.gain(one[0]) for proof in proofs)]
    rows = []
    for proof in proofs:
        word = '<span class="chip good">dynamic</span>' if proof.is_dynamic else '<span class="chip">not shown</span>'
        accuracy = f"{percent(proof.accuracy)}<br><small>{interval(proof.ci)}</small>"
        numbers = (ratio(_number(proof.cost)), accuracy)
        cells = [f"<td>{escape(proof.told)}</td>", *(f'<td class="number">{cell}</td>' for cell in numbers)]
        cells += [f"<td>{_change(proof, against)}</td>" for against, _ in shown]
        rows.append(f"<tr>{''.join(cells)}<td>{word}</td></tr>")
    within = sorted({proof.shuffled_within for proof in proofs})
    heads = [f"{title} {' or '.join(within)}" if title.endswith("within") else title for _, title in shown]
    convention = proofs[0].convention
    return table(("point", f"FLOPs {convention}", "accuracy %", *heads, "verdict"), rows, frozenset({1, 2}))


def power_table(proofs: Sequence[Proof]) -> str:
    """For every difference: which one these questions can tell, and how many this one would need."""
    rows = [
        f"<tr><td>{escape(proof.told)}</td><td>{escape(WORDS[gain.against])}</td>"
        + "".join(f'<td class="number">{cell}</td>' for cell in _power(proof, gain))
        + "</tr>"
        for proof in proofs
        for gain in proof.gains
    ]
    head = ("point", "over", "difference", "questions", "resolvable here", "questions this difference needs")
    return table(head, rows, frozenset(range(2, 6)))


def oracle_table(proofs: Sequence[Proof]) -> str:
    """Ties, what could be gained at the same mean cost, and how much of it is."""

    def cells(proof: Proof) -> Sequence[str] | None:
        found = proof.oracle
        if found is None:
            return None
        family = NOT_MEASURED if found.per_family is None else signed_points(found.per_family)
        shares = (found.closed_per_family, found.closed_per_sample)
        closed = (NOT_MEASURED if share is None else f"{share:.2f}" for share in shares)
        return (percent(proof.ties), family, signed_points(found.per_sample), *closed)

    head = ("ties %", "a route per family", "upper bound, per question", "closed of the first", "closed of the bound")
    return _numbers(proofs, head, cells)


def information_table(proofs: Sequence[Proof]) -> str:
    """What the route tells of the sample, in bits, beside what it tells by chance."""
    names = list(dict.fromkeys(name for proof in proofs for name in proof.information))

    def cells(proof: Proof) -> Sequence[str] | None:
        told = []
        for name in names:
            one = proof.information.get(name)
            by_chance = "" if one is None else f"<br><small>{one.by_chance:.3f} by chance, p {one.p_value:.3f}</small>"
            told.append(NOT_MEASURED if one is None else f"{one.bits:.3f}{by_chance}")
        return (f"{proof.entropy:.3f}", *told)

    return _numbers(proofs, ("entropy of the routes", *names), cells)


def costs_table(proofs: Sequence[Proof]) -> str:
    """How the samples' costs are spread, and the hard group."""

    def cells(proof: Proof) -> Sequence[str] | None:
        if proof.costs is None:
            return None
        spread = (ratio(value) for value in (proof.costs.mean, proof.costs.p95, proof.costs.low, proof.costs.high))
        if proof.hard is None:
            return (*spread, NOT_MEASURED, "", "")
        hard = proof.hard
        whose = f"{hard.n:,}<br><small>wrong by {escape(hard.control)}</small>"
        return (*spread, whose, percent(hard.method), percent(hard.mixture))

    head = ("mean cost", "p95", "least", "most", "hard questions", "method %", "static mixture %")
    return _numbers(proofs, head, cells)


def routes_table(proof: Proof) -> str:
    """Every measured route: what it costs and answers, and the share of samples that took it."""
    rows = [
        f'<tr><td>{escape(route_text(route.name))}</td><td class="number">{ratio(_number(route.cost))}</td>'
        f'<td class="number">{percent(route.accuracy)}</td><td class="number">{percent(route.share)}</td></tr>'
        for route in proof.routes
    ]
    return table(("route", f"FLOPs {proof.convention}", "accuracy %", "taken by %"), rows, frozenset({1, 2, 3}))


def _numbers(proofs: Sequence[Proof], head: Sequence[str], cells: Cells) -> str:
    rows = []
    for proof in proofs:
        found = cells(proof)
        if found is not None:
            numbers = "".join(f'<td class="number">{cell}</td>' for cell in found)
            rows.append(f"<tr><td>{escape(proof.told)}</td>{numbers}</tr>")
    return table(("point", *head), rows, frozenset(range(1, len(head) + 1))) if rows else ""


def _change(proof: Proof, against: Against) -> str:
    gain = proof.gain(against)
    return NOT_MEASURED if gain is None else change_cell(gain.value, *gain.ci)


def _power(proof: Proof, gain: Gain) -> tuple[str, ...]:
    needed = NOT_MEASURED
    if gain.questions_needed is not None:
        needed = _with_pictures(gain.questions_needed, math.ceil(gain.questions_needed * proof.pictures / proof.n))
    return signed_points(gain.value, 2), _with_pictures(proof.n, proof.pictures), percent(gain.resolvable, 2), needed


def _with_pictures(questions: int, pictures: int) -> str:
    return f"{questions:,}<br><small>{pictures:,} pictures</small>"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
