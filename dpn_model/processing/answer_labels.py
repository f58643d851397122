"""Which ids are answers, once a processor has put its pictures' tokens between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpn_model.processing.contract import IGNORE_INDEX


def answer_labels(
    ids: list[int], plain: Mapping[str, Any], answers: Sequence[tuple[int, int]], markers: set[int]
) -> list[int]:
    """Labels of the expanded ids, from the text before expansion.

    Tokens of pictures stand between the pieces of the text, which keep their ids. Every piece is looked for from the
    right, from its first supervised token on.

    Args:
        ids: with every picture expanded.
        plain: `input_ids` and `offset_mapping` of the text before that.
        answers: spans of characters in it, each with the token that ends it.
        markers: ids that stand for a picture before expansion.

    Raises:
        ValueError: the pieces are not found in `ids`.
    """
    text_ids: list[int] = plain["input_ids"]
    is_answer = [
        any(first < stop and last > start for start, stop in answers) for first, last in plain["offset_mapping"]
    ]
    labels, right = [IGNORE_INDEX] * len(ids), len(ids)
    for piece in reversed(_pieces(text_ids, markers)):
        first = next((place for place in piece if is_answer[place]), None)
        if first is None:
            continue
        tail = text_ids[first : piece.stop]
        place = next((at for at in range(right - len(tail), -1, -1) if ids[at : at + len(tail)] == tail), None)
        if place is None:
            raise ValueError("its processor changes the text beside the pictures, so answers cannot be found in it")
        for number, token in enumerate(tail):
            labels[place + number] = token if is_answer[first + number] else IGNORE_INDEX
        right = place
    return labels


def _pieces(ids: Sequence[int], markers: set[int]) -> list[range]:
    """Places between the markers."""
    cuts = [-1, *(place for place, token in enumerate(ids) if token in markers), len(ids)]
    return [range(left + 1, right) for left, right in zip(cuts, cuts[1:], strict=False)]
