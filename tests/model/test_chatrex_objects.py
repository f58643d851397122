"""Features of boxes: vectors of spec chatrex 10.2 and 10.3, and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from dpn_model.bases.chatrex.objects import axis_weights, box_embedding, box_features
from dpn_model.objects.boxes import box_array

A, B = [120.0, 216.0, 240.0, 336.0], [142.848, 30.72, 296.448, 337.92]


def content(maps: list[torch.Tensor], boxes: list[list[float]], side: int) -> np.ndarray:
    """Without the embedding of the box."""
    found = box_features(maps, box_array(boxes), side).numpy()
    return found - box_embedding(box_array(boxes) / side, found.shape[1])


def brute_force(maps: list[torch.Tensor], box: list[float], side: int) -> np.ndarray:
    """RoIAlign 7x7 sample by sample on levels that were resized to the first, then the mean."""
    cells = maps[0].shape[-1]
    stacked = torch.cat([interpolate(one[None], (cells, cells), mode="bilinear")[0] for one in maps]).double().numpy()
    scale = cells / side
    x, y = box[0] * scale, box[1] * scale
    width, height = max(box[2] * scale - x, 1), max(box[3] * scale - y, 1)
    across, down = int(np.ceil(width / 7)), int(np.ceil(height / 7))
    bins = np.zeros((7, 7, len(stacked)))
    for row in range(7):
        for column in range(7):
            for i in range(down):
                for j in range(across):
                    at_y = y + (row + (i + 0.5) / down) * height / 7
                    at_x = x + (column + (j + 0.5) / across) * width / 7
                    bins[row, column] += sampled(stacked, at_y, at_x) / (across * down)
    return bins.mean(axis=(0, 1))


def sampled(maps: np.ndarray, y: float, x: float) -> np.ndarray:
    cells = maps.shape[-1]
    if not (-1 <= y <= cells and -1 <= x <= cells):
        return np.zeros(len(maps))
    y, x = max(y, 0), max(x, 0)
    low_y, low_x = min(int(y), cells - 1), min(int(x), cells - 1)
    high_y, high_x = min(low_y + 1, cells - 1), min(low_x + 1, cells - 1)
    y, x = (cells - 1 if low_y == cells - 1 else y), (cells - 1 if low_x == cells - 1 else x)
    part_y, part_x = y - low_y, x - low_x
    top = maps[:, low_y, low_x] * (1 - part_x) + maps[:, low_y, high_x] * part_x
    bottom = maps[:, high_y, low_x] * (1 - part_x) + maps[:, high_y, high_x] * part_x
    return np.asarray(top * (1 - part_y) + bottom * part_y)


@pytest.mark.parametrize(
    ("box", "expected", "close"),
    [
        (A, (45.0, 69.0), 1e-4),
        ([100, 100, 101, 101], (25.5, 25.5), 1e-4),
        ([0, 0, 768, 768], (95.997397, 95.997397), 1e-4),
        ([700, 700, 768, 768], (183.471655, 183.471655), 1e-4),
        ([760, 760, 800, 800], (8.760569, 8.760569), 1e-4),
        (B, (54.912, 46.08), 1e-4),
    ],
)
def test_ramps(box: list[float], expected: tuple[float, float], close: float) -> None:
    ramp = torch.arange(192.0).expand(192, 192)
    maps = torch.stack([ramp, ramp.T]).repeat(4, 1, 1)  # eight channels: an embedding of the box has a multiple
    assert content([maps], [box], 768)[0, :2] == pytest.approx(expected, abs=close)


def test_bins_of_the_first_row() -> None:
    edges = np.linspace(120.0, 240.0, 8)
    weights = axis_weights(edges[:-1], edges[1:], 192, 0.25)
    expected = [32.1429, 36.4286, 40.7143, 45, 49.2857, 53.5714, 57.8571]
    assert weights @ np.arange(192) == pytest.approx(expected, abs=5e-5)
    assert weights.sum(axis=1) == pytest.approx([1.0] * 7)


def test_levels_of_two_resolutions() -> None:
    fine = torch.arange(16.0).reshape(1, 4, 4).repeat(4, 1, 1)
    coarse = torch.tensor([[[0.0, 10], [20, 30]]]).repeat(4, 1, 1)
    found = content([fine, coarse], [[2, 4, 12, 12]], 16)[0]
    assert found[[0, 4]] == pytest.approx([9.75, 19.642857], abs=1e-5)


def test_constant_maps_stay_constant() -> None:
    widths, cells = (192, 384, 768, 1536), (192, 96, 48, 24)
    maps = [torch.full((w, n, n), float(k + 1)) for k, (w, n) in enumerate(zip(widths, cells, strict=True))]
    found = content(maps, [A], 768)[0]
    assert found == pytest.approx(np.repeat([1.0, 2, 3, 4], widths), abs=1e-5)


def test_it_is_roialign_and_mean_sample_by_sample() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(4, 16, 16), torch.randn(8, 8, 8), torch.randn(4, 4, 4)]
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 56, (12, 2))
    boxes = np.concatenate([corners, np.minimum(corners + rng.uniform(0.5, 40, (12, 2)), 64)], axis=1).tolist()
    boxes += [[0, 0, 64, 64], [60, 60, 90, 70]]
    expected = np.stack([brute_force(maps, box, 64) for box in boxes])
    np.testing.assert_allclose(content(maps, boxes, 64), expected, atol=2e-6)


def test_embedding_of_the_box() -> None:
    first, second = box_embedding(box_array([A, B]) / 768, 2880)
    assert first[:4] == pytest.approx([0.773010, -0.634393, 0.807918, -0.589295], abs=1e-6)
    assert first[720:724] == pytest.approx([0.995185, 0.098017, 0.990851, 0.134960], abs=1e-6)
    assert first[1440:1444] == pytest.approx([0.831470, 0.555570, 0.817438, 0.576017], abs=1e-6)
    assert first[2160:2164] == pytest.approx(first[1440:1444])
    assert first.sum() == pytest.approx(1552.731014, abs=1e-6)
    assert second[[0, 1, 720, 721]] == pytest.approx([0.998027, 0.062791, 0.974527, -0.224271], abs=1e-6)
    assert second[[1440, 1441, 2160, 2161]] == pytest.approx([0.951057, 0.309017, 0.587785, -0.809017], abs=1e-6)
    assert second.sum() == pytest.approx(1554.958571, abs=1e-6)
    assert np.linalg.norm([first, second], axis=1) == pytest.approx([37.947332] * 2, abs=1e-6)
    small = box_embedding(box_array([A]) / 768, 32)[0]
    assert small[:4] == pytest.approx([0.773010, -0.634393, 0.223888, 0.974615], abs=1e-6)
    assert small[8:12] == pytest.approx([0.995185, 0.098017, 0.146731, 0.989177], abs=1e-6)


def test_no_box_has_no_row() -> None:
    assert box_features([torch.randn(8, 4, 4)], box_array([]), 16).shape == (0, 8)
