"""PackedSequence: the one representation of a batch. Samples lie end to end, nothing is padded.

Shape letters: B samples, T packed tokens, V visual tokens, I images, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class ImageSpan:
    """One image's rows: `height * width` of them, row-major, from packed row `start` of sample `sample`.

    A method that keeps no grid (random dropping) leaves `height == 1` and `is_grid == False`.
    """

    sample: int
    start: int
    height: int
    width: int
    is_grid: bool = True

    @property
    def num_tokens(self) -> int:
        """Visual tokens of the image as it is now."""
        return self.height * self.width


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
        images: spans of the visual tokens, ordered by `start`.
        router_rows_R: int64[R] on the host, rows of the routing tokens, ascending.
        sample_keys: a number per sample for draws at inference; empty where no reducer asks for it.
        passages: per sample, what a reducer leaves for the ones behind it; empty where none does.
    """

    hidden_TD: Tensor
    kind_T: Tensor
    token_index_T: Tensor
    position_ids_T: Tensor
    lengths: tuple[int, ...]
    images: tuple[ImageSpan, ...]
    router_rows_R: np.ndarray
    sample_keys: tuple[int, ...] = ()
    passages: tuple[Any, ...] = ()

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

    def images_per_sample(self) -> tuple[int, ...]:
        """Images of each sample."""
        samples = np.array([image.sample for image in self.images], dtype=np.int64)
        return tuple(np.bincount(samples, minlength=self.num_samples).tolist())

    def with_hidden(self, hidden_TD: Tensor) -> PackedSequence:
        """The same batch with another residual stream of the same shape."""
        return replace(self, hidden_TD=hidden_TD)


def contiguous_positions(lengths: Sequence[int]) -> np.ndarray:
    """int64[T]: 0..n-1 for every sample, one after the other."""
    total = int(sum(lengths))
    starts = np.repeat(np.cumsum((0, *lengths))[:-1], lengths)
    return np.arange(total, dtype=np.int64) - starts


def find_image_spans(
    image_rows: np.ndarray, lengths: Sequence[int], grids: Sequence[tuple[int, int]]
) -> tuple[ImageSpan, ...]:
    """Spans of all images in a packed batch.

    Args:
        image_rows: bool[T] on the host, true where a row is an image placeholder.
        lengths: tokens per sample.
        grids: visual tokens of every image, as (height, width), in reading order.

    Raises:
        ValueError: placeholders and images differ in number, or an image's placeholders do not lie together.
    """
    rows = np.flatnonzero(image_rows)
    needed = sum(height * width for height, width in grids)
    if len(rows) != needed:
        raise ValueError(
            f"input_ids hold {len(rows)} image placeholders, pixel_values {len(grids)} images of "
            f"{needed} visual tokens together; one placeholder per visual token is needed"
        )
    ends = np.cumsum(np.asarray(lengths))
    spans: list[ImageSpan] = []
    read = 0
    for number, (height, width) in enumerate(grids):
        start, last = int(rows[read]), int(rows[read + height * width - 1])
        sample = int(np.searchsorted(ends, start, side="right"))
        if last - start + 1 != height * width or last >= ends[sample]:
            raise ValueError(
                f"input_ids: image {number} ({height}x{width} = {height * width} visual tokens) begins in sample "
                f"{sample}, where fewer placeholders lie together"
            )
        spans.append(ImageSpan(sample, start, height, width))
        read += height * width
    return tuple(spans)
