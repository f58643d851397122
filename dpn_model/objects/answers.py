"""Texts that name boxes: groups of an answer written and read, indices found, and rewritten where boxes change places.

A group is `<ground>phrase</ground><objects><obj1><obj4></objects>`. Source: spec chatrex 3.2 to 3.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dpn_model.special_texts import MAX_OBJECTS

#: (question, answer); the last answer of a prompt is open
Turn = TypeVar("Turn", tuple[str, str], tuple[str, str | None])

# What stands in a span holds no tag of a span: a group that never ends must not swallow the next one.
_INSIDE = r"(?:(?!</?(?:ground|objects)>).)*"
_GROUP = rf"<ground>(?P<phrase>{_INSIDE})</ground>\s*<objects>(?P<indices>{_INSIDE})</objects>"
_NEVER_ENDS = r"<objects>(?:\s*<obj[0-9]+>)*"
_PART = rf"(?P<part><ground>(?:{_INSIDE}</ground>(?:\s*{_NEVER_ENDS})?)?|{_NEVER_ENDS})"
_PIECE = re.compile(rf"{_GROUP}|{_PART}|<obj[0-9]{{1,3}}>", re.DOTALL)
_OBJECTS = re.compile(rf"<objects>{_INSIDE}</objects>", re.DOTALL)
_INDEX = re.compile(r"<obj([0-9]{1,3})>")
_ANY_INDEX = re.compile(r"<obj([0-9]+)>")
_TAGS = re.compile(rf"{_OBJECTS.pattern}|</?(?:ground|objects)>|{_ANY_INDEX.pattern}", re.DOTALL)
_TIGHT = re.compile(rf"\s*(</?(?:ground|objects)>|{_INDEX.pattern})\s*")
#: what ends a sentence or a part of one: the phrase "couple." is the category couple
_SENTENCE_MARKS = ".,;:!?"


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says of the boxes that were sent, and what it says that had to be left out.

    Attributes:
        groups: phrase -> indices as the answer has them, each once; equal phrases are one. Phrases in order of their
            first appearance; an empty group is a phrase without indices.
        mentions: `<objN>` outside of groups: spoken of, not detected.
        out_of_range: indices of groups that no box has.
        duplicate: indices that a phrase had already.
        unclosed: parts of a group that are no whole one; they name nothing.
    """

    groups: Mapping[str, tuple[int, ...]]
    mentions: int = 0
    out_of_range: int = 0
    duplicate: int = 0
    unclosed: int = 0

    @property
    def indices(self) -> tuple[int, ...]:
        """All boxes that groups name, ascending, each once."""
        return tuple(sorted({index for of_phrase in self.groups.values() for index in of_phrase}))


def parse_answer(text: str, num_boxes: int) -> ParsedAnswer:
    """Reads an answer; nothing that a model may say is an error.

    Args:
        text: with its special tokens.
        num_boxes: boxes that the model was shown.
    """
    groups: dict[str, list[int]] = {}
    mentions = out_of_range = duplicate = unclosed = 0
    for piece in _PIECE.finditer(text):
        if piece["part"] is not None:
            unclosed += 1
        elif piece["phrase"] is None:
            mentions += 1
        else:
            found = groups.setdefault(piece["phrase"].strip(), [])
            for index in map(int, _INDEX.findall(piece["indices"])):
                if index >= num_boxes:
                    out_of_range += 1
                elif index in found:
                    duplicate += 1
                else:
                    found.append(index)
    whole = {phrase: tuple(found) for phrase, found in groups.items()}
    return ParsedAnswer(whole, mentions, out_of_range, duplicate, unclosed)


def write_group(phrase: str, indices: Iterable[int]) -> str:
    """A group with its indices ascending; of no index, the group that says that there is no such thing.

    Raises:
        ValueError: a phrase that could not be read back, or an index that is no token.
    """
    if not phrase.strip() or _TAGS.search(phrase):
        raise ValueError(f"{phrase!r} is no phrase of a group: it is empty or holds a tag")
    found = sorted(set(indices))
    if found and not 0 <= found[0] <= found[-1] < MAX_OBJECTS:
        wrong = next(index for index in found if not 0 <= index < MAX_OBJECTS)
        raise ValueError(f"<obj{wrong}> is no token; allowed: <obj0> to <obj{MAX_OBJECTS - 1}>")
    return f"<ground>{phrase.strip()}</ground><objects>{''.join(f'<obj{index}>' for index in found)}</objects>"


def category_key(phrase: str) -> str:
    """What phrases of one category have in common: case, blanks around and marks behind do not count."""
    return phrase.strip().rstrip(_SENTENCE_MARKS).strip().casefold()


def by_category(groups: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """An answer's groups by `category_key`, indices ascending: "Dog" and "dog." are one."""
    found: dict[str, set[int]] = {}
    for phrase, indices in groups.items():
        found.setdefault(category_key(phrase), set()).update(indices)
    return {key: tuple(sorted(indices)) for key, indices in found.items()}


def object_indices(text: str) -> tuple[int, ...]:
    """Every index that a text names, in order of first appearance; also those that are no token, such as 100."""
    return tuple(dict.fromkeys(map(int, _ANY_INDEX.findall(text))))


def renumbered(turns: Sequence[Turn], order: Sequence[int]) -> list[Turn]:
    """The turns of a record whose boxes have changed places; indices of each group stay ascending.

    Args:
        turns: (question, answer).
        order: `order[new]` is a box's old place; boxes that no turn names may be left out.

    Raises:
        ValueError: a box stands twice in the order, or one that is named does not stand there.
    """
    places = {old: new for new, old in enumerate(order)}
    if len(places) < len(order):
        twice = next(old for new, old in enumerate(order) if places[old] != new)
        raise ValueError(f"box {twice} stands more than once in the new order")
    return [
        (_renumbered(question, places), answer if answer is None else _renumbered(answer, places))
        for question, answer in turns
    ]


def widened(text: str, more: Mapping[int, Sequence[int]]) -> str:
    """An answer whose groups name, beside each box, those that are as right; indices ascending, each once.

    Args:
        text: of the answer.
        more: box -> further boxes.
    """

    def wider(span: re.Match[str]) -> str:
        named = [int(index) for index in _ANY_INDEX.findall(span[0])]
        every = sorted({*named, *(further for index in named for further in more.get(index, ()))})
        return f"<objects>{''.join(f'<obj{index}>' for index in every)}</objects>"

    return _OBJECTS.sub(wider, text)


def plain_text(text: str) -> str:
    """What an answer says in words: its phrases and the text around them, without tags, in single blanks."""
    return " ".join(_TAGS.sub(" ", text).split())


def tight(text: str) -> str:
    """The text without blanks around its tags, which some tokenizers write and some do not."""
    return _TIGHT.sub(r"\1", text)


def _renumbered(text: str, places: Mapping[int, int]) -> str:
    def moved(found: re.Match[str]) -> str:
        old = int(found[1])
        if old not in places:
            raise ValueError(f"<obj{old}> is named but is none of the {len(places)} boxes of the new order")
        return f"<obj{places[old]}>"

    def ascending(span: re.Match[str]) -> str:
        sorted_tags = iter(sorted(_ANY_INDEX.findall(span[0]), key=int))
        return _ANY_INDEX.sub(lambda _: f"<obj{next(sorted_tags)}>", span[0])

    return _OBJECTS.sub(ascending, _ANY_INDEX.sub(moved, text))
