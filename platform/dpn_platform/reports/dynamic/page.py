"""The proof as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from dpn_platform.reports.dynamic.proof import Proof, summary_of
from dpn_platform.reports.dynamic.tables import (
    costs_table,
    information_table,
    oracle_table,
    power_table,
    routes_table,
    verdicts_table,
)
from dpn_platform.reports.look.style import embedded_png, html_document

_NOTES = (
    "Static mixture: at most two of the checkpoint's own routes, drawn by a coin so that their mean cost is the "
    "method's, or one cheaper route; the best of all. It is chosen by the same questions that it is measured on, which "
    "favours it. So is the mixture of separately trained pyramids, where each seed counts by itself and the model "
    "without reduction is among them.",
    "Shuffled: the method's own routes dealt to its samples at random, the mean over all dealings. Shuffled within "
    "groups tells whether more than the group is known; no verdict rests on it.",
    "Intervals: 95%, paired, whole pictures drawn with all their questions; the mixture's two parts stay, its shares "
    "follow the draw's cost. Those of shuffled routes cover another dealing too. Many points are looked at together; "
    "no correction is made for that. They say nothing of another training seed.",
    "The verdict is given where the gains over the static mixture, over trained pyramids (where there are any at that "
    "cost) and over the routes shuffled all exclude zero.",
    "Questions needed: for a true difference of the size that was measured, 80% power, 5% two-sided, at as many "
    "questions per picture as here. Resolvable: the smallest difference that these questions tell with that power.",
    "Upper bound: the best route for every question, chosen by its own outcome, at the method's mean cost; no method "
    "reaches it. A route per family is chosen on half of the pictures and measured on the others, the mean of 20 "
    "halvings both ways. Closed: the method's share of that gain.",
    "Information is in bits, over samples with a picture; by chance: the mean of 200 dealings of the same routes.",
    "Hard questions: those that the named control gets wrong. Where it is a route of the checkpoint, whoever takes "
    "that route has nothing there, so the figure favours whoever avoids it; no verdict rests on it.",
    "Costs: a sample's prefill over the mean cost without reduction, so that their mean is the FLOPs ratio.",
)


def dynamic_page(proofs: Sequence[Proof], name: str, png: bytes) -> str:
    """The page's HTML; the same proofs and picture give the same text."""
    proved = [proof for proof in proofs if proof.gains]
    parts = [f'<p class="kicker">Choice per sample</p><h1>{escape(name)}</h1>']
    parts.append(f'<p class="lead">{escape(summary_of(proofs))}.</p>')
    parts += [f'<p class="note">{escape(line)}</p>' for line in cautions(proofs)]
    parts.append(embedded_png(png, "Accuracy against cost: fixed routes, their mixtures, and what the method chose"))
    parts.append("".join(f"<p><b>{escape(one.told)}</b>: {escape(one.verdict)}.</p>" for one in proofs))
    parts += ["<h2>Against what a coin does</h2>", verdicts_table(proofs)]
    if proved:
        parts += ["<h2>How many questions it takes</h2>", power_table(proved)]
        parts += ["<h2>What there is to gain</h2>", oracle_table(proved)]
        parts += ["<h2>What the routes tell</h2>", information_table(proved)]
    parts += ["<h2>Costs and hard questions</h2>", costs_table(proofs), "<h2>Routes</h2>"]
    parts += [
        f"<details><summary>{escape(one.told)}: {len(one.routes_taken)} of {len(one.routes)} routes taken</summary>"
        f"{routes_table(one)}</details>"
        for one in proofs
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in _NOTES)
    parts.append(f"<footer><h2>How this was measured</h2><ul>{notes}</ul></footer>")
    return html_document(f"{name}: choice per sample", "\n".join(part for part in parts if part))


def cautions(proofs: Sequence[Proof]) -> list[str]:
    """`checkpoint: what to know before its numbers`, once per checkpoint."""
    return list(dict.fromkeys(f"{proof.name}: {line}" for proof in proofs for line in proof.warnings))
