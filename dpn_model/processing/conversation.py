"""Conversation templates as segments: each piece of text, and whether it is supervised (spec base-models B.3).

Labels follow from the segments, so they cannot disagree with the ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpn_model.special_texts import IMAGE_TEXT, ROUTER_TEXT

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Layout:
    """How a turn is written.

    Attributes:
        system: in front of the first question.
        ask, reply: around every question.
        end: the token that ends an answer.
        between: what follows it where another question comes.
    """

    system: str
    ask: str = "USER: "
    reply: str = " ASSISTANT:"
    end: str = "</s>"
    between: str = ""


LAYOUTS = {
    "vicuna_v1": Layout(f"{VICUNA_SYSTEM} "),
    "short": Layout(""),
    # Without the system turn that Qwen's own template writes (spec chatrex 3.1).
    "qwen": Layout("", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>", "\n"),
}
#: stage 1: the picture, then its caption and a line's end; no roles
PLAIN = "plain"
TEMPLATES = (*LAYOUTS, PLAIN)


@dataclass(frozen=True)
class Segment:
    """A piece of text; supervised pieces are what the model learns to say."""

    text: str
    is_supervised: bool = False


def normalise_question(text: str, objects: str | None = None) -> str:
    """A placeholder, wherever it stood in the turn, moves to the front, on a line of its own; several stay in place.

    Args:
        text: of the question.
        objects: the picture's objects, on a line behind it, which is empty where there are none; None: no such line.
    """
    if text.count(IMAGE_TEXT) != 1:
        return text.strip()
    line = "" if objects is None else f"{objects}\n"
    return f"{IMAGE_TEXT}\n{line}{text.replace(IMAGE_TEXT, '').strip()}"


def conversation_segments(
    turns: Sequence[tuple[str, str | None]],
    *,
    template: str = "vicuna_v1",
    router: bool = False,
    objects: str | None = None,
) -> list[Segment]:
    """Segments of a conversation.

    Args:
        turns: (question, answer); the last answer may be None: the segments then end in "ASSISTANT:".
        template: one of `TEMPLATES`.
        router: put `<ROUTER>` at the end of every question (samples that contain an image).
        objects: see `normalise_question`.

    Raises:
        ValueError: unknown template, no turn, an answer missing before the last turn, or what `plain` has no place for.
    """
    if template not in TEMPLATES:
        raise ValueError(f"unknown conversation template {template!r}; allowed: {', '.join(TEMPLATES)}")
    if not turns:
        raise ValueError("a conversation needs at least one turn")
    if template == PLAIN:
        return _plain_segments(turns, router=router)
    layout = LAYOUTS[template]
    segments: list[Segment] = []
    for number, (question, answer) in enumerate(turns):
        lead = layout.between if number else layout.system
        tail = ROUTER_TEXT if router else ""
        asked = normalise_question(question, objects)
        segments.append(Segment(f"{lead}{layout.ask}{asked}{tail}{layout.reply}"))
        if answer is not None:
            segments.append(Segment(f"{answer}{layout.end}", is_supervised=True))
        elif number + 1 < len(turns):
            raise ValueError(f"turn {number + 1} has no answer; only the last one may be open")
    return segments


def _plain_segments(turns: Sequence[tuple[str, str | None]], *, router: bool) -> list[Segment]:
    """A picture and its caption; what the question says beside the placeholder is left out, as the authors do."""
    question, caption = turns[0]
    if len(turns) > 1 or question.count(IMAGE_TEXT) != 1:
        raise ValueError(f"template {PLAIN!r} takes one turn with one {IMAGE_TEXT}; this sample has another form")
    if router:
        raise ValueError(f"template {PLAIN!r} has no question that {ROUTER_TEXT} could end; train without a router")
    segments = [Segment(IMAGE_TEXT)]
    return segments if caption is None else [*segments, Segment(f"{caption}\n", is_supervised=True)]
