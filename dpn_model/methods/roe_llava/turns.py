"""Turns of a batch's conversations, as RoE's routers see them: what asks, and which rows follow the turn's decision.

Shape letters: B samples, T packed rows, D model width, M turns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.picture_rows import picture_rows


@dataclass(frozen=True)
class Turn:
    """One turn of a sample with a picture.

    Attributes:
        sample: of the batch.
        picture: int64[n], rows of its pictures and of the system prompt; the same for every turn.
        question: int64[n], rows of text since the turn before began to be answered, up to where this one does.
        rows: int64[n], rows behind the pictures that the turn decides for: from its own answer on (the first turn's:
            from the first question on) to where the next one is answered.
    """

    sample: int
    picture: np.ndarray
    question: np.ndarray
    rows: np.ndarray


def turns_of(call: LayerCall) -> list[Turn]:
    """Turns of every sample with a picture, in order; a batch without known answers has one for each."""
    assert call.state is not None
    asking, turns = call.state.asking_rows_R, []
    for sample, picture in enumerate(picture_rows(call)):
        if not len(picture):
            continue
        start, end = int(call.starts[sample]), int(call.starts[sample]) + call.lengths[sample]
        text = np.setdiff1d(np.arange(start, end), picture)
        asks = asking[(asking >= start) & (asking < end)]
        since = np.concatenate([[start - 1], asks[:-1]])
        until = np.concatenate([asks[1:], [end]])
        for number, (before, own, following) in enumerate(zip(since, asks, until, strict=True)):
            question = text[(text > before) & (text <= own)]
            rows = text[(text > (own if number else start - 1)) & (text <= following)]
            turns.append(Turn(sample, picture, question if len(question) else np.array([own]), rows))
    return turns


def router_inputs(normed_TD: Tensor, turns: list[Turn]) -> Tensor:
    """float[M, 2D]: of every turn the mean picture row beside the mean question row."""
    if not turns:
        return normed_TD.new_zeros(0, 2 * normed_TD.shape[1])
    return torch.stack([torch.cat([_mean(normed_TD, turn.picture), _mean(normed_TD, turn.question)]) for turn in turns])


def _mean(normed_TD: Tensor, rows: np.ndarray) -> Tensor:
    return normed_TD[torch.from_numpy(rows).to(normed_TD.device)].mean(dim=0)
