"""Resamplers: the order of their layers by hand, and how they begin."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, layer_norm, silu

from dpn_model import Method
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.resampler.projector import HoneybeeResampler, QwenResampler

SIZES = Sizes(12, 16, 4, 4)


@torch.no_grad()
def test_qwens_keys_have_places_and_its_values_have_none() -> None:
    resampler, features = QwenResampler(Method("resampler", heads=2), SIZES), torch.randn(3, 16, 12)
    resampler.reset_parameters()
    patches = layer_norm(features @ resampler.enter.weight.T, (16,), eps=1e-6)
    square = resampler.positions_VW.T.unflatten(1, (2, 2))[None]
    places = interpolate(square, size=(4, 4), mode="bicubic", align_corners=False)[0].flatten(1).T
    query = layer_norm(resampler.queries_VW, (16,), eps=1e-6) + resampler.positions_VW
    found = resampler.attention(query.expand(3, -1, -1), patches + places, patches)
    expected = layer_norm(found, (16,), eps=1e-6) @ resampler.matrix_WD
    torch.testing.assert_close(resampler(features, 4, 4), expected)


def test_qwens_beginnings() -> None:
    torch.manual_seed(0)
    resampler = QwenResampler(Method("resampler"), Sizes(128, 256, 8, 8))
    resampler.reset_parameters()
    for tensor, deviation in (
        (resampler.queries_VW, 0.02),
        (resampler.enter.weight, 0.02),
        (resampler.matrix_WD, 256**-0.5),
    ):
        assert tensor is not None
        assert tensor.std().item() == pytest.approx(deviation, rel=0.05)
    assert resampler.attention.heads == 2
    assert resampler.enter.bias is None


@torch.no_grad()
def test_honeybees_queries_look_at_themselves_too() -> None:
    resampler = HoneybeeResampler(Method("resampler", variant="honeybee", layers=1, heads=3), SIZES)
    nn.init.normal_(resampler.queries_VW)
    features, layer = torch.randn(2, 16, 12), resampler.layers[0]
    rows = layer_norm(resampler.queries_VW, (12,)).expand(2, -1, -1)
    keys = torch.cat([rows, layer_norm(resampler.enter(features), (12,))], dim=1)
    rows = rows + layer.attention(rows, keys, keys)
    normed = layer_norm(rows, (12,))
    inner = layer_norm(silu(layer.gate(normed)) * layer.up(normed), (48,), eps=1e-6)
    torch.testing.assert_close(resampler(features, 4, 4), resampler.leave(rows + layer.down(inner)))


def test_honeybees_queries_begin_as_zeros_and_part_in_training() -> None:
    torch.manual_seed(0)
    resampler = HoneybeeResampler(Method("resampler", variant="honeybee", layers=2), SIZES)
    resampler.reset_parameters()
    assert resampler.queries_VW.abs().max() == 0
    assert [len(resampler.layers), resampler.layers[0].attention.heads] == [2, 1]
    (resampler(torch.randn(1, 16, 12), 4, 4) * torch.arange(4.0)[None, :, None]).sum().backward()
    grads = resampler.queries_VW.grad
    assert grads is not None
    assert len({tuple(row.tolist()) for row in grads}) == 4
