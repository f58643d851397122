"""Max pooling on a packed batch: the spec's values (base-models A.6), and a plain reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d

from dpn_model.methods.pooling.experts import DepthwiseConv, mean_of_windows, pool_image
from dpn_model.methods.rows import replace_image_rows
from dpn_model.methods.windows import PoolWindows, max_of_windows
from dpn_model.packing import ImageSpan, PackedSequence, TokenKind, contiguous_positions


def _state(hidden: torch.Tensor, lengths: tuple[int, ...], images: tuple[ImageSpan, ...]) -> PackedSequence:
    kind = torch.zeros(len(hidden), dtype=torch.int8)
    for image in images:
        kind[image.start : image.start + image.num_tokens] = TokenKind.VISION
    positions = torch.from_numpy(contiguous_positions(lengths))
    routers = np.empty(0, dtype=np.int64)
    return PackedSequence(hidden, kind, torch.arange(len(hidden)), positions, lengths, images, routers)


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
    ("grid", "tokens"),
    [
        ((24, 24), (288, 288, 144, 36, 144)),
        ((32, 32), (512, 512, 256, 64, 256)),
        ((27, 27), (351, 351, 169, 36, 196)),
        ((24, 12), (144, 144, 72, 18, 72)),
        ((16, 9), (64, 72, 32, 8, 40)),
        ((25, 37), (450, 444, 216, 54, 247)),
        ((3, 3), (3, 3, 1, None, 4)),
    ],
)
def test_pooled_grids_match_the_specs_table(grid: tuple[int, int], tokens: tuple[int | None, ...]) -> None:
    columns = [((1, 2), "floor"), ((2, 1), "floor"), ((2, 2), "floor"), ((4, 4), "floor"), ((2, 2), "ceil")]
    for (kernel, rounding), expected in zip(columns, tokens, strict=True):
        if expected is not None:
            rows = pool_image(ImageSpan(0, 0, *grid), kernel, rounding)
            assert len(rows.windows) == expected == rows.height * rows.width


@pytest.mark.parametrize(
    ("kernel", "pool", "expected"),
    [
        ((2, 2), mean_of_windows, [2.5, 4.5, 10.5, 12.5]),
        ((2, 2), DepthwiseConv(1, (2, 2)), [2.5, 4.5, 10.5, 12.5]),
        ((2, 2), max_of_windows, [5, 7, 13, 15]),
        ((1, 2), max_of_windows, [1, 3, 5, 7, 9, 11, 13, 15]),
        ((2, 1), max_of_windows, [4, 5, 6, 7, 12, 13, 14, 15]),
    ],
)
def test_a_ramp_gives_the_peers_values(kernel: tuple[int, int], pool: PoolWindows, expected: list[float]) -> None:
    """Peer-methods section 12: the grid 0..15."""
    image = ImageSpan(0, 0, 4, 4)
    state = _state(torch.arange(16.0)[:, None], (16,), (image,))
    after, _ = replace_image_rows(state, [pool_image(image, kernel, pool=pool)])
    assert after.hidden_TD.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("kernels", "grids"),
    [
        (((1, 2),) * 3, [(24, 12), (24, 6), (24, 3)]),
        (((2, 1),) * 3, [(12, 24), (6, 24), (3, 24)]),
        (((2, 2),) * 3, [(12, 12), (6, 6), (3, 3)]),
        (((1, 2), (2, 2), (1, 2)), [(24, 12), (12, 6), (12, 3)]),
    ],
)
def test_grid_traces_match_the_spec(kernels: tuple[tuple[int, int], ...], grids: list[tuple[int, int]]) -> None:
    state = _state(torch.randn(576, 1), (576,), (ImageSpan(0, 0, 24, 24),))
    for kernel, grid in zip(kernels, grids, strict=True):
        state, _ = replace_image_rows(state, [pool_image(state.images[0], kernel)])
        assert (state.images[0].height, state.images[0].width) == grid


def test_tokens_after_the_image_move_as_the_spec_says() -> None:
    """Spec A.6, TEST sequence: prefix 35, pattern 422, router token at suffix offset 7."""
    state = _state(torch.randn(35 + 576 + 12, 1), (35 + 576 + 12,), (ImageSpan(0, 35, 24, 24),))
    state.kind_T[35 + 576 + 7] = TokenKind.ROUTER
    state = replace(state, router_rows_R=np.array([35 + 576 + 7]))
    for kernel, visual in (((2, 2), 144), ((1, 2), 72), ((1, 2), 36)):
        state, _ = replace_image_rows(state, [pool_image(state.images[0], kernel)])
        [router] = state.router_rows_R
        assert state.kind_T[router] == TokenKind.ROUTER
        assert state.images[0].start == 35
        assert router == 35 + visual + 7
        assert int(state.position_ids_T[router]) == router
        assert int(state.token_index_T[router]) == 35 + 576 + 7


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
