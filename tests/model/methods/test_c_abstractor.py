"""The C-Abstractor: the size of a stage, norms per cell, and features that stay as they are."""

from __future__ import annotations

import torch

from dpn_model import Method
from dpn_model.methods.c_abstractor.projector import Bottleneck, CAbstractor, ChannelNorm
from dpn_model.methods.projecting.settings import Sizes


def test_a_stage_has_the_published_size() -> None:
    with torch.device("meta"):
        block = Bottleneck(1024)
    assert 3 * sum(weight.numel() for weight in block.parameters()) == 7_914_240
    assert block.around.groups == 1024
    assert {norm.eps for norm in block.norms} == {1e-5}


def test_norms_look_at_one_cells_channels() -> None:
    planes = torch.randn(2, 5, 3, 4)
    changed = planes.clone()
    changed[:, :, 0, 0] = 7 * torch.randn(2, 5)
    before, after = (ChannelNorm(5)(each) for each in (planes, changed))
    torch.testing.assert_close(before[:, :, 1:], after[:, :, 1:])
    torch.testing.assert_close(before.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-6, rtol=0)


def test_features_without_a_gradient_are_left_alone() -> None:
    """The authors add positions in place, which changes frozen features and breaks without gradients."""
    projector = CAbstractor(Method("c_abstractor", depth=1), Sizes(8, 6, 4, 4))
    projector.reset_parameters()
    assert projector.positions_PC is not None
    assert 0 < projector.positions_PC.abs().max() < 0.2
    with torch.inference_mode():
        features = torch.randn(2, 16, 8)
    kept = features.clone()
    with torch.no_grad():
        assert projector(features, 4, 4).shape == (2, 4, 6)
    assert torch.equal(features, kept)
    frozen = torch.randn(2, 16, 8)
    projector(frozen, 4, 4).sum().backward()
    assert all(weight.grad is not None for weight in projector.parameters())
    assert CAbstractor(Method("c_abstractor", depth=1, pos_emb=False), Sizes(8, 6, 4, 4)).positions_PC is None
