"""Max pooling on a packed batch: the spec's values (base-models A.6), and a plain reference."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool2d

from dpn_model.packing import ImageSpan, PackedSequence, TokenKind, contiguous_positions
from dpn_model.pyramid.experts import pool_image
from dpn_model.reduction import replace_image_rows


def _state(hidden: torch.Tensor, lengths: tuple[int, ...], images: tuple[ImageSpan, ...]) -> PackedSequence:
    kind = torch.zeros(len(hidden), dtype=torch.int8)
    for image in images:
        kind[image.start : image.start + image.num_tokens] = TokenKind.VISION
    positions = torch.from_numpy(contiguous_positions(lengths))
    return PackedSequence(hidden, kind, torch.arange(len(hidden)), positions, lengths, images)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ((1, 2), [20, 4, 6, 8, 10, 12, 14, 16]),
        ((2, 1), [20, 6, 7, 8, 13, 14, 15, 16]),
        ((2, 2), [20, 8, 14, 16]),
        ((1, 1), [20, *range(2, 17)]),
    ],
)
def test_pooling_gives_the_specs_values(kernel: tuple[int, int], expected: list[int]) -> None:
    cells = torch.arange(1.0, 17.0)
    cells[0] = 20
    image = ImageSpan(0, 0, 4, 4)
    after, _ = replace_image_rows(_state(cells[:, None], (16,), (image,)), [pool_image(image, kernel)])
    assert after.hidden_TD.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("grid", "kernel", "tokens"),
    [
        ((24, 24), (1, 2), 288),
        ((27, 27), (2, 2), 169),
        ((16, 9), (1, 2), 64),
        ((25, 37), (4, 4), 54),
        ((3, 3), (2, 2), 1),
    ],
)
def test_floor_mode_drops_the_border(grid: tuple[int, int], kernel: tuple[int, int], tokens: int) -> None:
    assert len(pool_image(ImageSpan(0, 0, *grid), kernel).windows) == tokens


def test_a_grid_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"3x3 grid is too small for the 4x4 kernel"):
        pool_image(ImageSpan(0, 0, 3, 3), (4, 4))


def test_mixed_kernels_match_max_pool2d_and_leave_text_alone() -> None:
    torch.manual_seed(0)
    lengths = (3 + 20 + 2, 4, 1 + 36 + 5)
    images = (ImageSpan(0, 3, 4, 5), ImageSpan(2, 30, 6, 6))
    hidden = torch.randn(sum(lengths), 7, requires_grad=True)
    kernels = [(2, 1), (2, 3)]
    after, image_T = replace_image_rows(
        _state(hidden, lengths, images), [pool_image(i, k) for i, k in zip(images, kernels, strict=True)]
    )
    pieces = [
        hidden[:3],
        _pooled(hidden, images[0], kernels[0]),
        hidden[23:30],
        _pooled(hidden, images[1], kernels[1]),
        hidden[66:],
    ]
    expected = torch.cat(pieces)
    assert torch.equal(after.hidden_TD, expected)
    assert after.lengths == (3 + 10 + 2, 4, 1 + 6 + 5)
    assert after.visual_tokens() == (10, 0, 6)
    assert (image_T >= 0).sum() == 16
    assert after.position_ids_T.tolist() == [*range(15), *range(4), *range(12)]
    weight = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), hidden)[0] for out in (after.hidden_TD, expected))
    assert torch.equal(ours, theirs)


def _pooled(hidden: torch.Tensor, image: ImageSpan, kernel: tuple[int, int]) -> torch.Tensor:
    rows = hidden[image.start : image.start + image.num_tokens]
    grid = rows.T.reshape(1, -1, image.height, image.width)
    return max_pool2d(grid, kernel).flatten(2)[0].T


def test_keep_positions_keeps_the_windows_first_cell() -> None:
    image = ImageSpan(0, 1, 2, 4)
    after, _ = replace_image_rows(
        _state(torch.randn(10, 3), (10,), (image,)), [pool_image(image, (2, 2))], keep_positions=True
    )
    assert after.position_ids_T.tolist() == [0, 1, 3, 9]
