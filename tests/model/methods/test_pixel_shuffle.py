"""Pixel shuffle: which patches lie side by side, and the transpose that InternVL's first version left out."""

from __future__ import annotations

import torch
from torch.nn.functional import gelu, layer_norm

from dpn_model import Method
from dpn_model.methods.pixel_shuffle.projector import PixelShuffle
from dpn_model.methods.projecting.settings import Sizes

GRID = torch.arange(16.0)[None, :, None]


def shuffle(order: str) -> PixelShuffle:
    return PixelShuffle(Method("pixel_shuffle", order=order), Sizes(1, 6, 4, 4))


def test_a_token_is_a_block_in_reading_order() -> None:
    found = shuffle("v2").shuffled(GRID, 4, 4)[0].tolist()
    assert found == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_the_first_version_swaps_rows_and_columns() -> None:
    found = shuffle("v1").shuffled(GRID, 4, 4)[0].tolist()
    assert found == [[0, 1, 4, 5], [8, 9, 12, 13], [2, 3, 6, 7], [10, 11, 14, 15]]
    assert shuffle("v1").grid(4, 8) == (4, 2)


@torch.no_grad()
def test_norm_matrix_gelu_matrix() -> None:
    projector = shuffle("v2")
    first, _, second = projector.mlp
    normed = layer_norm(projector.shuffled(GRID, 4, 4), (4,), eps=1e-5)
    torch.testing.assert_close(projector(GRID, 4, 4), second(gelu(first(normed))))
