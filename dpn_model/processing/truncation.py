"""Cutting what is too long, at the right, without ever cutting through a picture (spec base-models B.3, A.4 row 28)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TRUNCATIONS = ("expanded", "text")


def kept_length(
    ids: Sequence[int], image_token_id: int, picture_tokens: Sequence[int], max_length: int, policy: str
) -> tuple[int, int]:
    """How many of the expanded ids are kept, and how many of the pictures.

    Args:
        ids: with every picture as its number of placeholders.
        image_token_id: the placeholder.
        picture_tokens: placeholders of every picture, in reading order.
        max_length: limit in tokens.
        policy: "expanded": the limit holds for `ids` (LLaVA from 1.2 on); "text": a picture counts as one token
            (LLaVA-HR and the authors of DPN).

    Raises:
        ValueError: unknown policy, or the limit falls inside a picture.
    """
    if policy not in TRUNCATIONS:
        raise ValueError(f"truncation = {policy!r}; allowed: {', '.join(TRUNCATIONS)}")
    is_image = np.asarray(ids) == image_token_id
    ends = np.cumsum([0, *picture_tokens])
    weights = np.ones(len(ids), dtype=np.int64)
    if policy == "text":
        is_first = np.isin(np.cumsum(is_image) - 1, ends[:-1])
        weights[is_image & ~is_first] = 0
    kept = int(np.searchsorted(np.cumsum(weights), max_length, side="right"))
    shown = int(is_image[:kept].sum())
    pictures = int(np.searchsorted(ends, shown))
    if ends[pictures] != shown:
        raise ValueError(
            f"max_length = {max_length} falls inside a picture of {picture_tokens[pictures - 1]} tokens; allowed: a "
            "limit beside it"
        )
    return kept, pictures
