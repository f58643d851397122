"""LDP-v2: its tail by hand, and the order of its layers."""

from __future__ import annotations

import torch

from dpn_model import Method
from dpn_model.methods.ldpv2.projector import LdpV2
from dpn_model.methods.projecting.settings import Sizes


@torch.no_grad()
def test_the_tail_adds_a_depthwise_convolution() -> None:
    projector = LdpV2(Method("ldpv2"), Sizes(3, 1, 24, 24))
    torch.nn.init.ones_(projector.positions.weight)
    torch.nn.init.zeros_(projector.positions.bias)
    assert projector.tail(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [[5, 7, 5], [7, 10, 7], [5, 7, 5]]
    assert projector.tail(torch.ones(1, 1, 12, 12)).sum() == 1300


@torch.no_grad()
def test_pooling_comes_behind_the_mlp() -> None:
    projector, features = LdpV2(Method("ldpv2"), Sizes(3, 5, 4, 4)), torch.randn(2, 16, 3)
    projected = projector.mlp(features).unflatten(1, (2, 2, 2, 2)).mean(dim=(2, 4))
    expected = projector.tail(projected.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(projector(features, 4, 4), expected)
