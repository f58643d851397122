"""The rows of a ChatRex vocabulary for objects, and where `<ROUTER>` and the placeholders stand behind them.

`OBJECT_TOKENS` follow the words of the base LLM (spec chatrex 1.3); then comes `<ROUTER>`, and behind the last row the
placeholders `<image>` and `<objfeat>`, which are never embedded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpn_model.special_texts import OBJECT_TOKENS, ROUTER_TEXT
from dpn_model.weights.router_row import EMBEDDING, HEAD, folder_tokenizer


@dataclass(frozen=True)
class ObjectRows:
    """Where the tokens of objects are.

    Attributes:
        first: the id of `<obj0>`.
        known: how many of the checkpoint's rows are to be kept; those behind them are new, or the spare ones of an
            LLM that never saw an object.
        router: the id of `<ROUTER>`.
    """

    first: int
    known: int
    router: int


def find_object_rows(folder: Path, rows: int) -> ObjectRows:
    """Where a folder has its tokens of objects.

    Its tokenizer tells. One that does not know them gets them behind its last token: there they are already where the
    vocabulary ends with them (the authors' code adds them after loading), else the checkpoint is that of a base LLM,
    whose spare rows are dropped as the authors do. Without a tokenizer they are taken to be the last rows.

    Args:
        folder: with or without a tokenizer.
        rows: of the checkpoint's embedding.

    Raises:
        ValueError: a tokenizer that has them in another order or not all of them.
    """
    number, tokenizer = len(OBJECT_TOKENS), folder_tokenizer(folder)
    if tokenizer is None:
        first = rows - number if rows > number else rows
        return ObjectRows(first, rows, first + number)
    size, known = len(tokenizer), _first_id(tokenizer)
    first = size if known is None else known
    is_base = known is None and rows != size + number
    router = tokenizer.get_vocab().get(ROUTER_TEXT, max(size, first + number))
    return ObjectRows(first, min(rows, size) if is_base else rows, router)


def with_object_rows(tensors: Mapping[str, Tensor], places: ObjectRows) -> dict[str, Tensor]:
    """The embedding, and the head where it is another one, with a row for every token of objects.

    A new row starts at the mean of the words' rows, as the authors' do.
    """
    grown = dict(tensors)
    for name in (EMBEDDING, HEAD):
        if name in grown:
            grown[name] = _grown(grown[name], places)
    return grown


def _grown(weight: Tensor, places: ObjectRows) -> Tensor:
    """float[rows, D], in the type of numbers it has."""
    missing = places.first + len(OBJECT_TOKENS) - places.known
    if missing <= 0:
        return weight
    words = weight[: min(places.first, places.known)]
    mean = words.mean(dim=0, keepdim=True, dtype=torch.float32).to(weight.dtype)
    return torch.cat([weight[: places.known], mean.expand(missing, -1)])


def _first_id(tokenizer: Any) -> int | None:
    """The id of `<obj0>`; None where the tokenizer knows none of the tokens of objects."""
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary.get(text) for text in OBJECT_TOKENS]
    known = [number for number in ids if number is not None]
    if not known:
        return None
    for place, (text, number) in enumerate(zip(OBJECT_TOKENS, ids, strict=True)):
        if number != known[0] + place:
            raise ValueError(
                f"the tokenizer gives {text} the id {number}; allowed: {known[0] + place}, in the order <obj0> to "
                f"<obj99>, <ground>, </ground>, <objects>, </objects>"
            )
    return int(known[0])
