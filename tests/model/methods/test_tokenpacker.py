"""TokenPacker: a query sees its block alone; levels and beginnings as the authors have them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dpn_model import Method
from dpn_model.methods.projecting.layers import CrossAttention
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.tokenpacker.projector import TokenPacker

SIZES = Sizes(8, 6, 4, 4, tower_levels=24)


def packer(**settings: object) -> TokenPacker:
    torch.manual_seed(0)
    projector = TokenPacker(Method("tokenpacker", **settings), SIZES)
    projector.reset_parameters()
    return projector


@torch.no_grad()
def test_a_query_sees_its_own_block() -> None:
    projector, features = packer(), torch.randn(1, 16, 32)
    before = projector(features, 4, 4)
    features[:, [0, 1, 4, 5]] += 1
    changed = (projector(features, 4, 4) - before).abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [True, False, False, False]


@torch.no_grad()
def test_queries_begin_at_the_last_level_and_leave_no_residue() -> None:
    projector, features = packer(), torch.randn(1, 16, 32)
    projector.query.register_forward_hook(lambda _, given, out: seeds.append(given[0]))
    seeds: list[torch.Tensor] = []
    projector(features, 4, 4)
    expected = features[0, :, -8:].unflatten(0, (2, 2, 2, 2)).mean(dim=(1, 3)).flatten(0, 1)
    torch.testing.assert_close(seeds[0][0], expected)
    # No values, no answer: what is left is the output matrix's bias, zero when fresh.
    projector.norm_value.weight.zero_()
    assert projector(features, 4, 4).abs().max() == 0
    with_residual = packer(query_residual=True)
    with_residual.norm_value.weight.zero_()
    assert with_residual(features, 4, 4).abs().max() > 0


def test_levels_scale_with_the_tower() -> None:
    assert packer().levels == (12, 16, 22, 23)
    assert TokenPacker(Method("tokenpacker"), Sizes(8, 6, 4, 4, tower_levels=4)).levels == (2, 3, 4)
    assert packer(levels=(3, 5)).levels == (3, 5)
    with pytest.raises(ValueError, match="levels is empty"):
        Method("tokenpacker", levels=())


def test_it_begins_as_the_authors_do() -> None:
    torch.manual_seed(0)
    projector = TokenPacker(Method("tokenpacker", heads=2), Sizes(64, 96, 4, 4, tower_levels=24))
    projector.reset_parameters()
    attention = projector.attention
    assert isinstance(attention, CrossAttention)
    assert projector.key[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    bound = math.sqrt(6 / (64 + 3 * 64))
    for module in (attention.query, attention.key, attention.value):
        assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
        assert module.bias.abs().max() == 0
    assert attention.out.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert projector.norm_key.eps == 1e-6


@torch.no_grad()
def test_attention_is_torchs() -> None:
    ours, theirs = CrossAttention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    inputs = [getattr(ours, name) for name in ("query", "key", "value")]
    theirs.in_proj_weight.copy_(torch.cat([module.weight for module in inputs]))
    theirs.in_proj_bias.copy_(torch.cat([module.bias for module in inputs]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    query, key, value = torch.randn(3, 2, 8), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])
