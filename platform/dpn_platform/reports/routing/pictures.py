"""Routes of chosen samples drawn (the paper's Fig. 4): a model beside its rivals, one picture under two questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dpn_platform.evaluation.recorded_runs import gallery_entry
from dpn_platform.evaluation.route_samples import Sample
from dpn_platform.reports.look.gallery import Example, cards_png
from dpn_platform.reports.look.style import embedded_png, html_document

_PAIRS_LEAD = (
    "Each picture under its simplest and its hardest question, by recorded difficulty or number of words; chosen "
    "without a look at the routes."
)
_SAMPLES_LEAD = "Samples that the models answer differently first, one of every route of the first model in turn."


@dataclass(frozen=True)
class Sheet:
    """One picture sheet: file stem, headings, PNG."""

    stem: str
    title: str
    lead: str
    png: bytes


def sheets(
    names: Sequence[str],
    samples: Sequence[Sample],
    pairs: Sequence[tuple[Sample, Sample]],
    pictures: Mapping[str, bytes],
) -> list[Sheet]:
    """The sheets there is something to show on; a column per model (a single one has two), a row per question."""
    found = []
    columns = max(2, len(names))
    if samples:
        cards = [card for sample in samples for card in _cards(sample, names, pictures)]
        title = " beside ".join((names[0], " and ".join(names[1:]))) if len(names) > 1 else f"Routes of {names[0]}"
        found.append(Sheet("samples", title, _SAMPLES_LEAD, cards_png(cards, title, columns)))
    if pairs:
        asked = [(sample, word) for pair in pairs for sample, word in zip(pair, ("simpler", "harder"), strict=True)]
        cards = [card for sample, word in asked for card in _cards(sample, names, pictures, f"{word} question")]
        title = "One picture, two questions"
        found.append(Sheet("questions", title, _PAIRS_LEAD, cards_png(cards, title, columns)))
    return found


def pictures_page(title: str, drawn: Sequence[Sheet]) -> str:
    """All sheets as one self-contained page."""
    description = "the image with its grid of visual tokens before the first site and after each, question and answer"
    parts = [f'<p class="kicker">Routes</p><h1>{escape(title)}</h1>']
    for one in drawn:
        parts += [f"<h2>{escape(one.title)}</h2><p>{escape(one.lead)}</p>", embedded_png(one.png, description)]
    return html_document(title, "\n".join(parts))


def _cards(sample: Sample, names: Sequence[str], pictures: Mapping[str, bytes], word: str = "") -> list[Example]:
    """One card per model; the corner says whose it is."""
    cards: list[Example] = []
    for name, row in zip(names, sample, strict=True):
        entry = gallery_entry(row, pictures.get(str(row.get("image_sha"))))
        cards.append({**entry, "family": ", ".join(filter(None, (word, name)))})
    return cards
