"""Picture statistics: pictures whose figures are known."""

import numpy as np
import pytest
from PIL import Image

from dpn_platform.evaluation.image_statistics import IMAGE_COLUMNS, image_statistics


def of(pixels):
    return image_statistics(Image.fromarray(np.asarray(pixels, dtype=np.uint8)))


def test_an_even_picture_has_nothing():
    found = of(np.full((40, 30, 3), 128))
    assert found == {"image_width": 30, "image_height": 40, "edge_density": 0.0, "image_entropy": 0.0}


def test_one_edge_and_two_levels():
    pixels = np.zeros((100, 100))
    pixels[:, 50:] = 255
    found = of(pixels)
    assert found["image_entropy"] == pytest.approx(1.0)
    assert found["edge_density"] == pytest.approx(2 / 98)  # the two columns beside the edge, of 98 with neighbours


def test_noise_has_edges_everywhere_and_nearly_eight_bits():
    found = of(np.random.default_rng(0).integers(0, 256, (200, 200)))
    assert found["edge_density"] > 0.9
    assert found["image_entropy"] == pytest.approx(8.0, abs=0.01)  # 0.0046 below


def test_large_pictures_are_measured_as_the_tower_sees_them():
    small = np.kron(np.random.default_rng(0).integers(0, 2, (28, 28)) * 255, np.ones((8, 8)))
    large = np.kron(small, np.ones((4, 4)))
    assert of(large)["edge_density"] == of(small)["edge_density"]
    assert of(large)["image_width"] == 896


def test_no_picture_and_a_tiny_one():
    assert image_statistics(None) == {name: None for name, _ in IMAGE_COLUMNS}
    assert of(np.zeros((1, 2)))["edge_density"] == 0.0
