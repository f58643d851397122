"""HoloV: stretches, scores and quotas by hand; no stretch is padded, whatever its quota."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model.methods.holov.selector import HoloV, quotas, stretch_scores, stretches
from dpn_model.methods.holov.spec import HoloVSettings


def test_stretches_are_consecutive_and_the_first_ones_longer() -> None:
    assert stretches(5, 2).tolist() == [[0, 1, 2], [3, 4, -1]]
    assert stretches(2, 16).tolist() == [[0], [1]]
    assert stretches(576, 16).shape == (16, 36)


def test_scores_by_hand() -> None:
    """Equal tokens: likeness 1 but to themselves, so the variance is 1 and is scaled to the mean of attention, 200."""
    cells, attention = stretches(2, 1), torch.tensor([[0.1, 0.3]])
    equal, different = torch.ones(1, 2, 4), torch.eye(2)[None]
    assert stretch_scores(equal, attention, cells, 0.09).item() == pytest.approx(218, rel=1e-4)
    assert stretch_scores(different, attention, cells, 0.09).item() == pytest.approx(200, rel=1e-4)


def score_of(tokens_MD: Tensor, attention_M: Tensor, diversity: float) -> float:
    unit = tokens_MD / (tokens_MD.norm(dim=1, keepdim=True) + 1e-6)
    likeness = unit @ unit.T * (1 - torch.eye(len(unit)))
    others = max(1, len(unit) - 1)
    mean = likeness.sum(dim=1) / others
    variance = ((likeness - mean[:, None]) ** 2).sum(dim=1) / others
    attention = attention_M * 1e3
    return float((attention + diversity * variance * attention.mean() / (variance.mean() + 1e-6)).mean())


@pytest.mark.parametrize("chunks", [1, 3, 4, 16])
def test_scores_of_uneven_stretches_are_those_of_each_alone(chunks: int) -> None:
    torch.manual_seed(chunks)
    tokens, attention = torch.randn(2, 14, 5), torch.rand(2, 14)
    found = stretch_scores(tokens, attention, stretches(14, chunks), 0.5)
    for picture in range(2):
        split = (one[picture].tensor_split(min(chunks, 14)) for one in (tokens, attention))
        expected = [score_of(*part, 0.5) for part in zip(*split, strict=True)]
        torch.testing.assert_close(found[picture], torch.tensor(expected), atol=1e-3, rtol=1e-4)


def test_quotas_by_hand() -> None:
    """Shares 3, 1.5 and 0.5 of 5; the first has two tokens only, and what it cannot keep goes to the next."""
    sizes = np.array([2, 4, 4])
    assert quotas(np.array([6.0, 3, 1]), sizes, 5).tolist() == [2, 3, 0]
    assert quotas(np.array([1.0, 1, 1]), sizes, 10).tolist() == [2, 4, 4]
    assert quotas(np.zeros(3), sizes, 1).tolist() == [1, 0, 0]


def test_inside_a_stretch_attention_alone_decides() -> None:
    kept = HoloV(HoloVSettings(keep=3))._kept(
        np.array([0.1, 0.4, 0.4, 0.9, 0.2, 0.3]), np.array([2.0, 1.0]), stretches(6, 2), 3
    )
    assert kept.windows.flatten().tolist() == [1, 2, 3]
