"""A number per sample that depends on its ids and pixels alone, and uniform draws from it.

What is decided by chance at inference (a random kernel, a random subset of tokens, who moves first among samples that a
router does not tell apart) is drawn from this number: the same sample is decided alike in every batch, on every run,
and no draw depends on its neighbours.

Shape letters: B samples, T packed tokens, I images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpn_model.packing import ImageSpan

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio, as int64: multiples of it are spread evenly
_LEVELS = 256  # steps per unit of a normalised pixel: finer than 8-bit colours, coarser than rounding errors


def sample_keys(
    ids_T: Tensor, lengths: Sequence[int], pixel_values: Tensor | Sequence[Tensor] | None, images: Sequence[ImageSpan]
) -> tuple[int, ...]:
    """One 64-bit number per sample. Sums of integers, so neither the batch nor the device's order of work matters.

    Args:
        ids_T: int64[T], packed token ids.
        lengths: tokens per sample.
        pixel_values: float[I, ...], or one tensor per image, in the order of `images`; or None.
        images: spans of the packed batch.
    """
    device = ids_T.device
    lengths_B = torch.tensor(lengths, device=device)
    sample_T = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths_B)
    place_T = torch.arange(len(ids_T), device=device) - (lengths_B.cumsum(0) - lengths_B)[sample_T]
    keys_B = torch.zeros(len(lengths), dtype=torch.int64, device=device)
    keys_B = keys_B.index_add(0, sample_T, (ids_T + 1) * _weights(place_T))
    if pixel_values is not None and images:
        keys_I = torch.stack([_pixel_key(pixels) for pixels in pixel_values]).to(device)
        keys_B = keys_B.index_add(0, torch.tensor([image.sample for image in images], device=device), keys_I)
    return tuple(keys_B.tolist())


def _pixel_key(pixels: Tensor) -> Tensor:
    levels = (pixels.flatten().float() * _LEVELS).round().to(torch.int64)
    return (levels * _weights(torch.arange(len(levels), device=levels.device))).sum()


def _weights(place: Tensor) -> Tensor:
    """int64, another odd number for every place (products wrap modulo 2^64)."""
    return (place * 2 + 1) * _ODD


def uniform_draws(keys: Sequence[int], *salt: int) -> np.ndarray:
    """float64[B] in [0, 1), independent between samples and between salts (splitmix64's finaliser)."""
    mixed = np.array([key % (1 << 64) for key in keys], dtype=np.uint64)
    for number in (0, *salt):
        mixed = _mix(mixed + np.uint64((number + 1) * 0x9E3779B97F4A7C15 % (1 << 64)))
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mix(values: np.ndarray) -> np.ndarray:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)
