"""Cutting what is too long, at the right, without ever cutting through a picture (spec base-models B.3, A.4 row 28)."""

from __future__ import annotations

import numpy as np

TRUNCATIONS = ("expanded", "text")


def kept_length(ids: list[int], image_token_id: int, tokens_per_image: int, max_length: int, policy: str) -> int:
    """How many of the expanded ids are kept.

    Args:
        ids: with every picture as `tokens_per_image` placeholders.
        image_token_id: the placeholder.
        tokens_per_image: V.
        max_length: limit in tokens.
        policy: "expanded": the limit holds for `ids` (LLaVA from 1.2 on); "text": a picture counts as one token
            (LLaVA-HR and the authors of DPN).

    Raises:
        ValueError: unknown policy, or the limit falls inside a picture.
    """
    if policy not in TRUNCATIONS:
        raise ValueError(f"truncation = {policy!r}; allowed: {', '.join(TRUNCATIONS)}")
    is_image = np.asarray(ids) == image_token_id
    place = np.cumsum(is_image) - 1
    weights = np.where(is_image & (place % tokens_per_image != 0), 0, 1) if policy == "text" else np.ones(len(ids))
    kept = int(np.searchsorted(np.cumsum(weights), max_length, side="right"))
    if int(is_image[:kept].sum()) % tokens_per_image:
        raise ValueError(
            f"max_length = {max_length} falls inside a picture of {tokens_per_image} tokens; allowed: a limit beside it"
        )
    return kept
