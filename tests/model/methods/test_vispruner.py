"""VisPruner: rounds of dropping by hand, against the plain loop, and what they multiply."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpn_model.methods.vispruner.selector import VisPruner
from dpn_model.methods.vispruner.spec import VisPrunerSettings

FEATURES = torch.tensor([[[1.0, 1], [1, 1], [1, 0], [0, 1], [0, 1], [-1, 0.5]]])
ATTENTION = torch.tensor([[0.6, 0.5, 0.4, 0.3, 0.2, 0.1]])


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (8, [0, 1, 3, 5]),  # both tokens at even places go at once
        (1, [0, 1, 2, 3]),  # 4 is 3 again and goes; of 2 and 5 the latter is more like 3
    ],
)
def test_rounds_by_hand(step: int, kept: list[int]) -> None:
    selector = VisPruner(VisPrunerSettings(keep=4, step=step))
    assert selector.chosen(FEATURES, ATTENTION).tolist() == [kept]


@pytest.mark.parametrize(
    ("keep", "important", "counts"), [(128, 0.5, (64, 64)), (64, 0.75, (48, 16)), (7, 0.5, (3, 4))]
)
def test_counts(keep: int, important: float, counts: tuple[int, int]) -> None:
    assert VisPrunerSettings(keep=keep, important=important).counts(576) == counts


def test_default_is_128_of_576() -> None:
    assert VisPrunerSettings().counts(576) == (64, 64)
    assert VisPrunerSettings(important=1.0).drops(576) == []
    assert VisPrunerSettings(keep=2).drops(8) == [(7, 4), (3, 2)], "never more than there are at even places"


def by_loops(features_VC: Tensor, attention_V: Tensor, settings: VisPrunerSettings) -> list[int]:
    first, diverse = settings.counts(len(features_VC))
    order = sorted(range(len(features_VC)), key=lambda row: -attention_V[row])
    left = order[first:]
    while len(left) > diverse:
        even, odd = left[::2], left[1::2]
        likeness = {
            row: max(float(torch.cosine_similarity(features_VC[row], features_VC[other], dim=0)) for other in odd)
            for row in even
        }
        ranked = sorted(even, key=lambda row: -likeness[row])
        left = ranked[min(settings.step, len(left) - diverse, len(even)) :] + odd
    return sorted(order[:first] + left)


@pytest.mark.parametrize("keep", [5, 9, 20])
def test_it_is_the_plain_loop_for_every_picture(keep: int) -> None:
    torch.manual_seed(keep)
    features, attention = torch.randn(3, 31, 6), torch.rand(3, 31)
    settings = VisPrunerSettings(keep=keep, step=3)
    found = VisPruner(settings).chosen(features, attention).tolist()
    assert found == [by_loops(*picture, settings) for picture in zip(features, attention, strict=True)]


def test_products_of_all_rounds() -> None:
    """4 of 6 left with two to go, one a round: 2 x 2 pairs, then 2 x 1."""
    assert VisPrunerSettings(keep=4, step=1).macs(6, 10) == (4 + 2) * 10
