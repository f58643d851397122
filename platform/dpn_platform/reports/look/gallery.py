"""A picture of some samples: question, answer, the route each took, and the visual tokens left after each site.

The lines over an image show what one visual token covers: the grid of the vision encoder first, then the coarser grid
that pooling leaves at each site. Where answers name boxes by their numbers, the first picture shows the boxes in place
of its grid: those that the answer names with their numbers, the others thin.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, UnidentifiedImageError

from dpn_model.objects.answers import parse_answer
from dpn_platform.reports.look.labels import route_steps

INK, QUIET, RIGHT, WRONG, PAPER = "#1e293b", "#64748b", "#15803d", "#b91c1c", "#f1f5f9"
#: of the groups of an answer
BOX_COLOURS = ("#e11d48", "#2563eb", "#d97706", "#16a34a", "#9333ea")
MAX_EXAMPLES = 8
DPI = 150
_COLUMNS = 2
_CARD_IN = (5.4, 2.1)
_HEADER_IN = 0.55
_QUESTION_CHARS, _VERDICT_CHARS = 62, 84

Example = Mapping[str, Any]


def gallery_png(examples: Sequence[Example], taken_by: str | None = None) -> bytes | None:
    """PNG of up to eight examples in the order given, families mixed; None when there are none.

    Args:
        taken_by: name of the point whose routes they show.
    """
    chosen = choose_examples(examples)
    return cards_png(chosen, f"Routes taken by {taken_by}" if taken_by else "Routes") if chosen else None


def cards_png(examples: Sequence[Example], title: str, columns: int = _COLUMNS) -> bytes:
    """PNG of one card per example, row by row; the same examples give the same bytes."""
    rows = math.ceil(len(examples) / columns)
    height = rows * _CARD_IN[1] + _HEADER_IN
    with matplotlib.rc_context({"font.family": ["DejaVu Sans"], "font.size": 10}):
        figure = Figure(figsize=(columns * _CARD_IN[0], height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        _header(figure, title, height)
        for index, example in enumerate(examples):
            row, column = divmod(index, columns)
            top = height - _HEADER_IN - row * _CARD_IN[1]
            _card(figure, example, column / columns, (top - _CARD_IN[1]) / height, 1 / columns, _CARD_IN[1] / height)
        target = io.BytesIO()
        figure.savefig(target, format="png", metadata={"Software": "dpn"})
    return target.getvalue()


def choose_examples(examples: Sequence[Example], limit: int = MAX_EXAMPLES) -> list[Example]:
    """At most `limit` examples: one of each family in turn, so that no family fills the picture."""
    waiting: dict[str, list[Example]] = {}
    for example in examples:
        waiting.setdefault(str(example.get("family", "")), []).append(example)
    chosen: list[Example] = []
    while len(chosen) < limit and any(waiting.values()):
        for queue in waiting.values():
            if queue and len(chosen) < limit:
                chosen.append(queue.pop(0))
    return chosen


def token_grid(tokens_before: int, steps: Sequence[str]) -> list[tuple[int, int]]:
    """(rows, columns) of visual tokens before the first and after each site; empty if the route is not pooling.

    A kernel `2x2` is height x width; a grid that it does not divide keeps a smaller last cell, as the model does.
    """
    side = math.isqrt(tokens_before)
    if side * side != tokens_before or side == 0:
        return []
    grids = [(side, side)]
    for step in steps:
        height, _, width = step.partition("x")
        if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
            return []
        rows, columns = grids[-1]
        grids.append((math.ceil(rows / int(height)), math.ceil(columns / int(width))))
    return grids


def _header(figure: Figure, title: str, height: float) -> None:
    figure.text(0.022, 1 - 0.27 / height, title, fontsize=14, fontweight="bold", color=INK, va="center")
    note = "each cell is one visual token: as encoded, then after each site"
    figure.text(0.978, 1 - 0.27 / height, note, fontsize=10, color=QUIET, va="center", ha="right")


def _card(figure: Figure, example: Example, left: float, bottom: float, width: float, height: float) -> None:
    def at(x: float, y: float) -> tuple[float, float]:
        return left + x * width, bottom + y * height

    question = textwrap.shorten(str(example.get("question", "")), _QUESTION_CHARS, placeholder="…")
    figure.text(*at(0.045, 0.91), question, fontsize=10.5, fontweight="bold", color=INK, va="center")
    figure.text(*at(0.045, 0.785), _verdict(example), fontsize=10, va="center", color=_verdict_colour(example))
    figure.text(*at(0.955, 0.785), str(example.get("family", "")), fontsize=9.5, va="center", ha="right", color=QUIET)
    steps = route_steps(example.get("route") or ())
    tokens = [int(count) for count in example.get("visual_tokens") or ()]
    image = decode_image(example.get("image"))
    grids = token_grid(tokens[0], steps) if tokens else []
    stages = max(len(tokens), 1)
    side = min(0.91 * _CARD_IN[0] / max(stages, 4) - 0.1, 0.6 * _CARD_IN[1])
    for stage in range(stages):
        x, y = at(0.045 + stage * 0.91 / max(stages, 4), 0.14)
        size_in = figure.get_size_inches()
        axes = figure.add_axes((x, y, side / size_in[0], side / size_in[1]))
        has_grid = stage < len(grids) and stage < len(tokens) and math.prod(grids[stage]) == tokens[stage]
        shows_boxes = stage == 0 and image is not None and example.get("boxes") is not None
        _stage(axes, image, grids[stage] if has_grid and not shows_boxes else None)
        if shows_boxes:
            assert image is not None
            draw_boxes(axes, example["boxes"], str(example.get("answer", "")), image.size)
        axes.set_xlabel(_stage_caption(stage, tokens, steps), fontsize=9, color=INK, labelpad=4)


def _verdict(example: Example) -> str:
    answer, gold = (said(str(example.get(key, "")), example.get("boxes")) for key in ("answer", "gold"))
    answer = answer or "(nothing)"
    whole = f"✓ {answer}" if example.get("correct") else f"✗ {answer}   (right: {gold})"
    return textwrap.shorten(whole, _VERDICT_CHARS, placeholder="…")


def said(answer: str, boxes: Sequence[Sequence[float]] | None) -> str:
    """An answer for people: groups as phrases with their boxes' numbers, "red circle 0 3; blue square none"."""
    groups = {} if boxes is None else parse_answer(answer, len(boxes)).groups
    if not groups:
        return answer
    front = answer.partition("<ground>")[0].strip()
    told = "; ".join(f"{phrase} {' '.join(map(str, indices)) or 'none'}" for phrase, indices in groups.items())
    return f"{front} {told}".strip()


def _verdict_colour(example: Example) -> str:
    return RIGHT if example.get("correct") else WRONG


def _stage_caption(stage: int, tokens: Sequence[int], steps: Sequence[str]) -> str:
    if not tokens:
        return "text only"
    count = f"{tokens[stage]} token" + ("" if tokens[stage] == 1 else "s")
    return count if stage == 0 or stage > len(steps) else f"{steps[stage - 1]} → {count}"


def _stage(axes: Axes, image: Image.Image | None, grid: tuple[int, int] | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#cbd5e1")
    if image is None:
        axes.set_facecolor(PAPER)
        axes.text(0.5, 0.5, "no image", transform=axes.transAxes, ha="center", va="center", color=QUIET)
        return
    axes.imshow(np.asarray(image), interpolation="nearest", extent=(0, 1, 0, 1), aspect="auto")
    if grid is None:
        return
    rows, columns = grid
    for colour, line_width in (("white", 1.5), (INK, 0.6)):
        axes.hlines([row / rows for row in range(1, rows)], 0, 1, colors=colour, linewidth=line_width, alpha=0.75)
        axes.vlines(
            [column / columns for column in range(1, columns)], 0, 1, colors=colour, linewidth=line_width, alpha=0.75
        )


def draw_boxes(axes: Axes, boxes: Sequence[Sequence[float]], answer: str, size: tuple[int, int]) -> None:
    """The boxes that a model was shown, over a picture on axes from 0 to 1; a colour for each group of the answer.

    Args:
        axes: with the picture.
        boxes: (x1, y1, x2, y2) in its pixels.
        answer: whose groups name them.
        size: (width, height) of the picture.
    """
    groups = parse_answer(answer, len(boxes)).groups
    colours = {
        index: BOX_COLOURS[number % len(BOX_COLOURS)]
        for number, indices in enumerate(groups.values())
        for index in indices
    }
    for index, (left, top, right, bottom) in enumerate(boxes):
        corner = (left / size[0], 1 - bottom / size[1])
        width, height = (right - left) / size[0], (bottom - top) / size[1]
        colour = colours.get(index)
        edge = Rectangle(corner, width, height, fill=False, edgecolor=colour or "white")
        edge.set_linewidth(0.5 if colour is None else 1.6)
        axes.add_patch(edge)
        if colour is not None:
            place = (corner[0], min(corner[1] + height, 0.93))
            box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
            axes.text(*place, str(index), fontsize=6.5, color="white", va="bottom", bbox=box)


def decode_image(encoded: object) -> Image.Image | None:
    """The RGB image of a base64 text or of bytes; None when there is none or it cannot be read."""
    if not isinstance(encoded, str | bytes) or not encoded:
        return None
    try:
        data = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else encoded
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError):
        return None
