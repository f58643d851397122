"""PruMerge and PruMerge+: the specification's vectors, the authors' double loop, and known defects of their code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.probe import VisionProbe, tower_layer
from dpn_model.methods.prumerge.selector import mixture, outliers_of
from dpn_model.methods.registry import find_method
from dpn_model.packing import ImageSpan

TOKENS = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 2], [1, 1], [3, 1]])
KEYS = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1], [1, 0.2]])
SCORES = torch.tensor([0.30, 0.05, 0.20, 0.02, 0.10, 0.08])


def test_the_specifications_outliers() -> None:
    attention = torch.tensor([[0.01] * 10 + [0.02, 0.02, 0.03, 0.05, 0.2, 0.49]])
    torch.testing.assert_close(attention.quantile(torch.tensor([0.25, 0.75])), torch.tensor([0.01, 0.0225]))
    assert outliers_of(attention, 1.5).tolist() == [3]
    assert Method("prumerge").best(3, 16) == 3  # 0.1875 of 16


def test_outliers_are_counted_picture_by_picture() -> None:
    """The authors' code takes the quartiles of the whole batch."""
    flat, peaked = torch.full((1, 16), 1 / 16), torch.tensor([[0.01] * 14 + [0.3, 0.5]])
    assert outliers_of(torch.cat([flat, peaked]), 1.5).tolist() == [0, 2]
    assert Method("prumerge").best(0, 16) == 1


@pytest.mark.parametrize(
    ("share", "best", "step", "spaced"),
    [(1 / 18, 32, 6, 96), (0.08, 46, 4, 144), (0.11, 63, 3, 192), (0.34, 195, 1, 575)],
)
def test_the_specifications_strides(share: float, best: int, step: int, spaced: int) -> None:
    """A third of outliers or more gave a stride of 0, which stops the authors' code."""
    settings = Method("prumerge", plus=True)
    assert settings.best(share * 576, 576) == best
    found = settings.spaced(share * 576, 576)
    assert (found.step, len(found), found[0]) == (step, spaced, 0)


def test_the_number_of_training_is_an_eighth_twice() -> None:
    settings = Method("prumerge", plus=True, keep=0.125)
    found = settings.spaced(0, 576)
    assert (settings.best(99, 576), found[0], found.step, len(found), found[-1]) == (72, 4, 8, 72, 572)
    order = list(range(576))
    chosen = settings.chosen(order, 0)
    assert chosen[:72] == order[:72]
    assert len(chosen) == len(set(chosen)) == 144 - 9, "the nine evenly spaced among the best are not kept twice"


def test_the_specifications_merge() -> None:
    kept, dropped = np.array([0, 2]), np.array([1, 3, 4, 5])
    weights = mixture(np.array([0, 2, 1]), dropped, KEYS, SCORES, 2)
    torch.testing.assert_close(weights @ TOKENS, torch.tensor([[1.34, 0.08], [0.10, 1.14], [0.44, 0.22]]))
    alone = mixture(kept, np.empty(0, np.int64), KEYS, SCORES, 2)
    torch.testing.assert_close(alone, weights[:2])
    assert mixture(kept, dropped[:0], KEYS, SCORES, 99).count_nonzero(dim=1).tolist() == [6, 6], (
        "never more than there are"
    )


def token_by_token(x: Tensor, keys: Tensor, a: Tensor, kept: list[int], neighbours: int) -> Tensor:
    unit, rows = torch.nn.functional.normalize(keys, dim=-1), []
    for one in kept:
        others = [other for other in range(len(x)) if other != one]
        near = sorted(others, key=lambda other, one=one: -(unit[one] @ unit[other]).item())[:neighbours]
        rows.append(x[one] + sum(a[other] * x[other] for other in near))
    return torch.stack([*rows, sum(a[one] * x[one] for one in range(len(x)) if one not in kept)])


def test_merging_is_the_authors_double_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    x, keys = torch.randn(2, 24, 5, generator=generator)
    a = torch.rand(24, generator=generator).softmax(dim=0)
    kept = [7, 3, 20]
    dropped = np.setdiff1d(np.arange(24), kept)
    weights = mixture(np.array([*kept, dropped[0]]), dropped, keys, a, 6)
    torch.testing.assert_close(weights @ x, token_by_token(x, keys, a, kept, 6))


@pytest.mark.parametrize("plus", [False, True])
@torch.no_grad()
def test_the_last_layers_queries_and_keys_decide(model: DpnForConditionalGeneration, plus: bool) -> None:
    """From pixels to rows, with the attention worked out here from the layer's own weights."""
    model.configure_method(Method("prumerge", plus=plus, neighbours=5))
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(3))
    pictures = model.image_side.tower(model.model, pixels, {}, {tower_layer(-1)})
    tokens = torch.cat([one.features_PC for one in pictures])
    rows = model.selector(tokens, [ImageSpan(0, 0, 8, 8), ImageSpan(0, 64, 8, 8)], VisionProbe(pictures))
    tower = model.model.vision_tower
    layer = next(module for name, module in tower.named_modules() if name.endswith("layers"))[-1]
    normed = layer.layer_norm1(tower(pixels, output_hidden_states=True).hidden_states[-2])
    queries, keys = layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed)
    attention = (queries @ keys.transpose(1, 2) / queries.shape[-1] ** 0.5).softmax(dim=-1)[:, 0, 1:]
    for number, one in enumerate(rows):
        a = attention[number]
        first, third = np.percentile(a.numpy(), [25, 75])
        count = int(64 * ((a > third + 1.5 * (third - first)).sum().item() / 64))
        kept = a.argsort(descending=True)[: max(1, count)].tolist()
        if plus:
            stride = max(1, int(int(64 / max(1, count)) / 3))
            kept += [place for place in range(0, 63, stride) if place not in kept]
        assert one.windows[:-1, 0].tolist() == kept
        x = pictures[number].features_PC
        torch.testing.assert_close(one.made, token_by_token(x, keys[number, 1:], a, kept, 5), atol=1e-5, rtol=1e-5)
        assert one.mass.tolist() == [6.0] * len(kept) + [64.0 - len(kept)]


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("keep", [None, 0.125, 1.0])
@pytest.mark.parametrize("extra_token", [False, True])
def test_every_picture_lies_between_the_planned_bounds(plus: bool, keep: float | None, extra_token: bool) -> None:
    settings = Method("prumerge", plus=plus, keep=keep, extra_token=extra_token)
    shape = base_shape("llava-1.5-7b")
    cheapest, dearest = find_method("prumerge").plan(settings, shape, 30)
    attention = torch.randn(40, 576, generator=torch.Generator().manual_seed(1)).mul(torch.arange(40)[:, None] / 8)
    attention = torch.cat(
        [attention.softmax(dim=1), torch.full((1, 576), 1 / 576), (torch.arange(576) > 431).float()[None]]
    )
    outliers = outliers_of(attention, settings.iqr).tolist()
    assert (outliers[-2:], max(outliers)) == ([0, 144], 144)
    counts = []
    for scores, number in zip(attention, outliers, strict=True):
        kept = settings.chosen(scores.sort(descending=True, stable=True).indices.tolist(), number)
        counts.append(settings.tokens(len(kept), 576))
    low, high = cheapest.visual_tokens[0], dearest.visual_tokens[0]
    assert all(low <= count <= high for count in counts)
    if keep is None and not plus:
        assert (low, high) == (1 + extra_token, 144 + extra_token)
    if keep is not None and (not plus or keep == 1):
        assert {low, high} == set(counts)


def test_order_and_dropped_tokens_are_options() -> None:
    assert Method("prumerge").chosen([3, 1, 2, 0], 2) == [3, 1]
    assert Method("prumerge", order="spatial").chosen([3, 1, 2, 0], 2) == [1, 3]
    assert Method("prumerge", extra_token=False).tokens(2, 4) == 2
    assert (Method("prumerge").tokens(2, 4), Method("prumerge").tokens(4, 4)) == (3, 4)
