"""Raters: the words that a picture resembles (arXiv 2410.04417, section 3.2; spec peer-methods 6.5).

Shape letters: B samples, T packed rows, V visual tokens of one picture, W words behind it, Q raters among them, D model
width.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan, PackedSequence, TokenKind


def likeness(visual_VD: Tensor, words_WD: Tensor) -> Tensor:
    """float32[W]: how much a picture looks like each word, by embeddings, unscaled; adds up to 1."""
    return (visual_VD.float() @ words_WD.float().T).softmax(dim=1).mean(dim=0)


def is_rater(likeness_W: Tensor) -> Tensor:
    """bool[W]: words above the mean; all of them where none is, which the authors' code does not survive."""
    above = likeness_W > likeness_W.mean()
    return above | ~above.any()


def with_raters(state: PackedSequence, embeddings_TD: Tensor) -> tuple[PackedSequence, tuple[int, ...]]:
    """The batch, its `passages` saying which of its sample's other rows rate each picture, and MACs per sample.

    Words are the text behind a picture, up to the last row that asks: in training, the last answer does not rate. A
    picture without any is rated by its sample's last row of text.
    """
    words, spent_B = [], [0] * state.num_samples
    kind_T = state.kind_T.cpu().numpy()
    for image in state.images:
        end = image.start + image.num_tokens
        start = state.starts[image.sample]
        asking = state.asking_rows_R[
            (state.asking_rows_R >= start) & (state.asking_rows_R < start + state.lengths[image.sample])
        ]
        rows = np.arange(end, int(asking[-1]) + 1)
        words.append(rows[kind_T[rows] == TokenKind.TEXT])
        spent_B[image.sample] += image.num_tokens * len(words[-1]) * embeddings_TD.shape[1]
    rates = [torch.empty(0, dtype=torch.bool, device=embeddings_TD.device)]
    with torch.no_grad():
        for image, rows in zip(state.images, words, strict=True):
            if len(rows):
                visual_VD = embeddings_TD[image.start : image.start + image.num_tokens]
                rates.append(is_rater(likeness(visual_VD, embeddings_TD[torch.from_numpy(rows).to(visual_VD.device)])))
    chosen = np.split(torch.cat(rates).cpu().numpy(), np.cumsum([len(rows) for rows in words])[:-1])
    passages: list[list[np.ndarray]] = [[] for _ in state.lengths]
    for image, rows, rate in zip(state.images, words, chosen, strict=False):
        others = other_rows(state, image.sample)
        raters = rows[rate] if len(rows) else others[-1:]
        passages[image.sample].append(np.searchsorted(others, raters))
    return replace(state, passages=tuple(passages)), tuple(spent_B)


def other_rows(state: PackedSequence, sample: int) -> np.ndarray:
    """int64: packed rows of a sample that belong to no picture, ascending; the same ones at every site."""
    start = state.starts[sample]
    is_other = np.ones(state.lengths[sample], dtype=bool)
    for image in state.images:
        if image.sample == sample:
            is_other[image.start - start : image.start - start + image.num_tokens] = False
    return start + np.flatnonzero(is_other)


def raters_of(state: PackedSequence) -> list[np.ndarray]:
    """For every picture int64[Q]: the packed rows that rate it."""
    places = [iter(one) for one in state.passages]
    others = {image.sample: other_rows(state, image.sample) for image in state.images}
    return [others[image.sample][next(places[image.sample])] for image in state.images]


def rope_bias(image: ImageSpan, raters: np.ndarray, rotary_TR: tuple[Tensor, Tensor], head_size: int) -> Tensor:
    """float32[Q, V]: score of all-ones queries of some rows against all-ones keys of a picture's.

    What rotary positions alone make of attention (SparseVLM+, section 4.2); the authors' code divides the weights
    behind the softmax by it, also where it is negative. Turned pairs of ones have the product
    2 cos(angle), and what is not turned 1, in whichever order a decoder lays them out.
    """
    places = torch.from_numpy(raters).to(rotary_TR[0].device)
    table_TR = torch.cat(rotary_TR, dim=1).float()
    turned = table_TR[places] @ table_TR[image.start : image.start + image.num_tokens].T
    return (turned + head_size - rotary_TR[0].shape[1]) / head_size**0.5
