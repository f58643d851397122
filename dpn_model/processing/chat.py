"""Chat templates: what a conversation looks like as text, and which of its characters are answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from dpn_model.processing.contract import Turn
from dpn_model.special_texts import IMAGE_TEXT, ROUTER_TEXT

Message = dict[str, Any]

_MARKS_ANSWERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "q"


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation: its text, and the spans (from, to) of its answers, each with the token that ends it."""

    text: str
    answers: tuple[tuple[int, int], ...]


def user_message(question: str, *, router: bool = False) -> Message:
    """A question's message: text and pictures, `<ROUTER>` last; a single picture comes first, several in their places.

    Args:
        question: with `<image>` where a picture belongs.
        router: whether it ends in `<ROUTER>`.
    """
    pieces = question.split(IMAGE_TEXT)
    if len(pieces) == 2:
        pieces = ["", "".join(pieces)]
    content: list[Message] = []
    for number, piece in enumerate(pieces):
        content += [{"type": "image"}] if number else []
        content += [{"type": "text", "text": piece.strip()}] if piece.strip() else []
    if router:
        if not content or content[-1]["type"] != "text":
            content.append({"type": "text", "text": ""})
        content[-1]["text"] += ROUTER_TEXT
    return {"role": "user", "content": content}


def render(processor: Any, messages: Sequence[Message], *, asks: bool) -> str:
    """Messages as text, by the processor's chat template.

    Args:
        processor: of transformers.
        messages: in the form of `user_message`.
        asks: whether the text ends where an answer begins.

    Raises:
        ValueError: the template cannot be rendered.
    """
    try:
        return str(processor.apply_chat_template(list(messages), add_generation_prompt=asks, tokenize=False))
    except Exception as error:  # whatever the template's own code raises
        raise ValueError(f"its chat template cannot be rendered: {' '.join(str(error).split())[:160]}") from error


def placeholders(processor: Any) -> tuple[str, ...]:
    """Texts that stand for a picture in this processor's prompts; empty where it does not say."""
    named = (getattr(processor, name, None) for name in ("image_token", "boi_token"))
    return tuple(dict.fromkeys(str(text) for text in named if text))


def check_template(processor: Any) -> None:
    """Refuses a processor that cannot ask about a picture.

    Raises:
        ValueError: no chat template, one that cannot be rendered, or one that takes texts only.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise ValueError("its processor has no chat template, so nothing says how it is asked")
    takes_texts_only = ValueError(
        "its chat template takes texts only, so the picture's placeholder never enters the prompt; it needs one that "
        "writes the parts of a message of type 'image' and 'text'"
    )
    try:
        text = render(processor, [user_message(f"{IMAGE_TEXT}{_PROBE}")], asks=True)
    except ValueError as error:
        try:
            render(processor, [{"role": "user", "content": _PROBE}], asks=True)
        except ValueError:
            raise error from None
        raise takes_texts_only from error
    texts = placeholders(processor)
    if texts and not any(one in text for one in texts):
        raise takes_texts_only


def conversation(processor: Any, turns: Sequence[Turn], *, router: bool, end: str) -> Conversation:
    """A conversation with answers, up to the end of the last one; an open last answer gives the prompt for it.

    Where the template writes no token that ends an answer, `end` follows it. What a template cannot write behind its
    own prompt is still learned if it is one turn: the prompt, the answer and its end are what generation will see.

    Args:
        processor: of transformers.
        turns: (question, answer).
        router: put `<ROUTER>` at the end of every question.
        end: the tokenizer's token for the end.

    Raises:
        ValueError: no turn, an answer missing before the last turn, or several turns whose answers cannot be told.
    """
    if not turns:
        raise ValueError("a conversation needs at least one turn")
    messages: list[Message] = []
    for number, (question, answer) in enumerate(turns):
        messages.append(user_message(question, router=router))
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        elif number + 1 < len(turns):
            raise ValueError(f"turn {number + 1} has no answer; only the last one may be open")
    answers = [answer for _, answer in turns if answer is not None]
    text = render(processor, messages, asks=len(answers) < len(turns))
    if not answers:
        return Conversation(text, ())
    starts = _marked_starts(processor, messages, text) or _starts_by_prefix(processor, messages, text)
    if starts is None or len(starts) != len(answers):
        if len(turns) > 1:
            raise ValueError(
                "its chat template does not continue its own prompt with the answer, so the answers of several turns "
                "cannot be told apart; allowed: one turn"
            )
        text = render(processor, messages[:1], asks=True)
        starts = [len(text)]
        text += f"{'' if text[-1:].isspace() else ' '}{answers[0].strip()}"
    return _closed(text, starts, answers, _ends(processor), end, goes_on=len(answers) < len(turns))


def _starts_by_prefix(processor: Any, messages: Sequence[Message], text: str) -> list[int] | None:
    """Where each answer begins: behind the prompt for it. None where a prompt is no prefix of the conversation."""
    starts = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = render(processor, messages[:number], asks=True)
            if not text.startswith(prompt):
                return None
            starts.append(len(prompt))
    return starts


def _marked_starts(processor: Any, messages: Sequence[Message], text: str) -> list[int] | None:
    """Where each answer begins, by the template's `{% generation %}` marks; None where it has none."""
    template = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if not isinstance(template, str) or not _MARKS_ANSWERS.search(template):
        return None
    texts, spans = render_jinja_template(
        [list(messages)],
        chat_template=template,
        return_assistant_tokens_mask=True,
        add_generation_prompt=messages[-1]["role"] == "user",
        **processor.tokenizer.special_tokens_map,
    )
    return [start for start, _ in spans[0]] if texts[0] == text else None


def _closed(
    text: str, starts: Sequence[int], answers: Sequence[str], ends: Sequence[str], end: str, *, goes_on: bool
) -> Conversation:
    """The spans of the answers, each with its end: one of `ends`, where the template writes it, or `end`."""
    ending = re.compile(r"\s*(?:" + "|".join(map(re.escape, ends)) + ")")
    spans: list[tuple[int, int]] = []
    written, read = "", 0
    for number, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        limit = starts[number + 1] if number + 1 < len(starts) else len(text)
        place = text.find(answer.strip(), start, limit)
        if place < 0:
            raise ValueError(f"its chat template does not write the answer {answer[:40]!r} as it is")
        stop = place + len(answer.strip())
        closing = ending.match(text, stop, limit)
        stop = closing.end() if closing else stop
        begins = start + len(written) - read
        written += text[read:stop] + ("" if closing else end)
        spans.append((begins, len(written)))
        read = stop
    return Conversation(written + text[read:] if goes_on else written, tuple(spans))


def _ends(processor: Any) -> list[str]:
    """Special tokens that may end an answer: all but those that stand for something else."""
    tokenizer = processor.tokenizer
    texts = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    others = {ROUTER_TEXT, tokenizer.bos_token, tokenizer.unk_token, *placeholders(processor)} - {tokenizer.eos_token}
    return sorted((texts | {tokenizer.eos_token}) - others - {None, ""}, key=lambda text: (-len(text), text))
