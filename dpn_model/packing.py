"""PackedSequence: the one representation of a batch. Samples lie end to end, nothing is padded.

Shape letters: B samples, T packed tokens, V visual tokens, I images, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TokenKind(IntEnum):
    """What a packed row is."""

    TEXT = 0
    VISION = 1
    ROUTER = 2
    OBJECT = 3


@dataclass(frozen=True)
class Grid:
    """A piece of a picture: `height` rows of `width` visual tokens, each row followed by `row_end` (0 or 1) more."""

    height: int
    width: int
    row_end: int = 0

    @property
    def num_tokens(self) -> int:
        """Placeholders it takes."""
        return self.height * (self.width + self.row_end)


@dataclass(frozen=True)
class Loose:
    """A piece of a picture that is no grid (a class token, a newline): every method keeps it, as it keeps text."""

    num_tokens: int


#: what a picture is made of, in reading order
Piece = Grid | Loose


@dataclass(frozen=True)
class ImageSpan:
    """Rows of one image, or of one of its grids: row-major, from packed row `start` of sample `sample`.

    A method that keeps no grid (random dropping) leaves `height == 1` and `is_grid == False`. `row_end` is 1 where
    every row of the grid is followed by a newline token (LLaVA-NeXT).
    """

    sample: int
    start: int
    height: int
    width: int
    is_grid: bool = True
    row_end: int = 0

    @property
    def num_tokens(self) -> int:
        """Visual tokens as they are now, newlines included."""
        return self.height * (self.width + self.row_end)


@dataclass(frozen=True)
class PackedSequence:
    """A batch without padding.

    Attributes:
        hidden_TD: float[T, D], the residual stream.
        kind_T: int8[T], a `TokenKind` per row.
        token_index_T: int64[T], the row each token had when the batch was first packed (a pooled token: its
            window's first cell). Labels are looked up through it, so no reduction has to carry them.
        position_ids_T: int64[T], rotary positions; int64[T, 3] where the base has multimodal RoPE.
        lengths: tokens per sample, on the host: every index and mask is derived from it without a device sync.
        images: spans of the visual tokens, ordered by `start`; a picture of several grids has several.
        router_rows_R: int64[R] on the host, rows of the routing tokens, ascending.
        sample_keys: a number per sample for draws at inference; empty where no reducer asks for it.
        injections: float[T, D] each, what is added behind each of the next layers (Qwen3-VL), 0 where text is.
        passages: per sample, what a reducer leaves for the ones behind it; empty where none does.
        asking_rows_R: int64[Q] on the host, the rows that ask, ascending: the last token of every turn's prompt where
            answers are known, the sample's last row where they are not.
        weight_T: float[T], mass of every row: how many of the first packed rows were merged into it; None while every
            row stands for itself.
        key_bias_T: float32[T], what is added to the score of every query for a row's key: the logarithm of how much of
            the row there is, which carries a gradient (a soft mask in training); None: nothing is added.
        copies: how often every sample is in the batch (`copied`).
    """

    hidden_TD: Tensor
    kind_T: Tensor
    token_index_T: Tensor
    position_ids_T: Tensor
    lengths: tuple[int, ...]
    images: tuple[ImageSpan, ...]
    router_rows_R: np.ndarray
    sample_keys: tuple[int, ...] = ()
    injections: tuple[Tensor, ...] = ()
    passages: tuple[Any, ...] = ()
    asking_rows_R: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    weight_T: Tensor | None = None
    key_bias_T: Tensor | None = None
    copies: int = 1

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def starts(self) -> tuple[int, ...]:
        """First packed row of every sample."""
        return (0, *accumulate(self.lengths))[:-1]

    def cu_seqlens(self) -> Tensor:
        """int32[B + 1], cumulative lengths on the hidden states' device (FlashAttention's convention)."""
        return torch.tensor((0, *accumulate(self.lengths)), dtype=torch.int32, device=self.hidden_TD.device)

    def visual_tokens(self) -> tuple[int, ...]:
        """Visual tokens per sample."""
        counts = [0] * self.num_samples
        for image in self.images:
            counts[image.sample] += image.num_tokens
        return tuple(counts)

    def copy_of(self, sample: int) -> int:
        """Which copy a sample is, from 0."""
        return sample // (self.num_samples // self.copies)

    def of_samples(self, samples: Sequence[int]) -> PackedSequence:
        """Some samples alone, in ascending order."""
        starts = self.starts
        rows = np.concatenate([np.arange(starts[one], starts[one] + self.lengths[one]) for one in samples])
        places = torch.from_numpy(rows).to(self.hidden_TD.device)
        first = dict(zip(samples, accumulate((self.lengths[one] for one in samples), initial=0), strict=False))
        images = tuple(
            replace(
                image,
                sample=list(samples).index(image.sample),
                start=image.start - starts[image.sample] + first[image.sample],
            )
            for image in self.images
            if image.sample in first
        )
        return replace(
            self,
            hidden_TD=self.hidden_TD[places],
            kind_T=self.kind_T[places],
            token_index_T=self.token_index_T[places],
            position_ids_T=self.position_ids_T[places],
            lengths=tuple(self.lengths[one] for one in samples),
            images=images,
            router_rows_R=np.flatnonzero(np.isin(rows, self.router_rows_R)),
            sample_keys=tuple(self.sample_keys[one] for one in samples) if self.sample_keys else (),
            injections=tuple(added_TD[places] for added_TD in self.injections),
            passages=tuple(self.passages[one] for one in samples) if self.passages else (),
            asking_rows_R=np.flatnonzero(np.isin(rows, self.asking_rows_R)),
            weight_T=None if self.weight_T is None else self.weight_T[places],
            key_bias_T=None if self.key_bias_T is None else self.key_bias_T[places],
        )

    def copied(self, copies: int) -> PackedSequence:
        """All samples, then all of them once more ...: gradients of the copies add up in what they were made from."""
        starts = [copy * len(self.hidden_TD) for copy in range(copies)]
        images = tuple(
            replace(image, sample=image.sample + copy * self.num_samples, start=image.start + start)
            for copy, start in enumerate(starts)
            for image in self.images
        )
        return replace(
            self,
            hidden_TD=self.hidden_TD.repeat(copies, 1),
            kind_T=self.kind_T.repeat(copies),
            token_index_T=self.token_index_T.repeat(copies),
            position_ids_T=self.position_ids_T.repeat(copies, *[1] * (self.position_ids_T.ndim - 1)),
            lengths=self.lengths * copies,
            images=images,
            router_rows_R=np.concatenate([start + self.router_rows_R for start in starts]),
            sample_keys=self.sample_keys * copies,
            injections=tuple(added_TD.repeat(copies, 1) for added_TD in self.injections),
            passages=self.passages * copies,
            asking_rows_R=np.concatenate([start + self.asking_rows_R for start in starts]),
            weight_T=None if self.weight_T is None else self.weight_T.repeat(copies),
            key_bias_T=None if self.key_bias_T is None else self.key_bias_T.repeat(copies),
            copies=copies,
        )

    def with_hidden(self, hidden_TD: Tensor) -> PackedSequence:
        """The same batch with another residual stream of the same shape."""
        return replace(self, hidden_TD=hidden_TD)

    def rows_at(self, token_index_T: Tensor) -> Tensor:
        """float[T', D]: this batch's rows of some tokens, int64[T'] as in `token_index_T`; all must be in it."""
        places = torch.empty(int(self.token_index_T.max()) + 1, dtype=torch.int64, device=token_index_T.device)
        places[self.token_index_T] = torch.arange(len(self.token_index_T), device=token_index_T.device)
        return self.hidden_TD[places[token_index_T]]

    def injected(self) -> PackedSequence:
        """The batch behind a layer: with what is added there, if anything is."""
        if not self.injections:
            return self
        return replace(self, hidden_TD=self.hidden_TD + self.injections[0], injections=self.injections[1:])


def contiguous_positions(lengths: Sequence[int]) -> np.ndarray:
    """int64[T]: 0..n-1 for every sample, one after the other."""
    total = int(sum(lengths))
    starts = np.repeat(np.cumsum((0, *lengths))[:-1], lengths)
    return np.arange(total, dtype=np.int64) - starts


def find_image_spans(
    image_rows: np.ndarray, lengths: Sequence[int], pictures: Sequence[Sequence[Piece]]
) -> tuple[tuple[ImageSpan, ...], ...]:
    """Spans of all grids of every picture in a packed batch.

    Args:
        image_rows: bool[T] on the host, true where a row is an image placeholder.
        lengths: tokens per sample.
        pictures: the pieces of every picture, in reading order.

    Raises:
        ValueError: placeholders and images differ in number, or a piece's placeholders do not lie together.
    """
    rows = np.flatnonzero(image_rows)
    needed = sum(piece.num_tokens for pieces in pictures for piece in pieces)
    if len(rows) != needed:
        raise ValueError(
            f"input_ids hold {len(rows)} image placeholders, pixel_values {len(pictures)} images of "
            f"{needed} visual tokens together; one placeholder per visual token is needed"
        )
    ends = np.cumsum(np.asarray(lengths))
    found: list[tuple[ImageSpan, ...]] = []
    read = 0
    for number, pieces in enumerate(pictures):
        spans = []
        for piece in pieces:
            start, last = int(rows[read]), int(rows[read + piece.num_tokens - 1])
            sample = int(np.searchsorted(ends, start, side="right"))
            if last - start + 1 != piece.num_tokens or last >= ends[sample]:
                raise ValueError(
                    f"input_ids: image {number} ({_told(piece)} visual tokens) begins in sample {sample}, where fewer "
                    "placeholders lie together"
                )
            if isinstance(piece, Grid):
                spans.append(ImageSpan(sample, start, piece.height, piece.width, row_end=piece.row_end))
            read += piece.num_tokens
        found.append(tuple(spans))
    return tuple(found)


def _told(piece: Piece) -> str:
    shape = f"{piece.height}x{piece.width + piece.row_end} = " if isinstance(piece, Grid) else ""
    return f"{shape}{piece.num_tokens}"
