"""The tower's own training: labels lie where the picture has the thing, and a tower learns from them."""

import numpy as np
import pytest
import torch

from dpn_platform.demo.drawing import COLOUR_VALUES
from dpn_platform.demo.tower import TINTS, draw_scenes, train_tower
from dpn_platform.training.base import build_tiny


def test_labels_lie_on_the_things() -> None:
    images, labels = draw_scenes(np.random.default_rng(3), 20, 8)
    assert images.shape == (20, 3, 96, 96)
    assert labels.shape == (20, 64, 2)
    patches = images.unfold(2, 12, 12).unfold(3, 12, 12).permute(0, 2, 3, 4, 5, 1).reshape(20, 64, -1, 3)
    # The brightest channel of empty ground stays below 60; a thing's colour is the commonest bright one.
    for picture in range(20):
        for patch, (content, tint) in enumerate(labels[picture].tolist()):
            bright = patches[picture, patch].float()
            bright = bright[bright.amax(dim=1) > 100]
            assert content == tint == 0 or tint > 0
            if tint == 0:
                assert len(bright) == 0
            elif len(bright) > 20:
                middle = bright.median(0).values
                nearest = min(
                    COLOUR_VALUES, key=lambda name: float((middle - torch.tensor(COLOUR_VALUES[name])).norm())
                )
                assert nearest == TINTS[tint]


@pytest.mark.parametrize("steps", [60])
def test_a_tower_learns_from_them(steps: int) -> None:
    torch.manual_seed(0)
    model, _ = build_tiny()
    before = train_tower(model, steps=1)
    decoder = model.lm_head.weight.clone()
    after = train_tower(model, steps=steps)
    assert before < 0.2
    assert after > 0.4
    assert torch.equal(model.lm_head.weight, decoder)
