"""SparseVLM by numbers worked out by hand (spec peer-methods 12), and what went wrong in public code (15)."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.contract import Host
from dpn_model.methods.sparsevlm.clusters import density_peaks
from dpn_model.methods.sparsevlm.raters import is_rater, likeness, raters_of, rope_bias, with_raters
from dpn_model.methods.sparsevlm.reducer import SparseVLM, build
from dpn_model.methods.sparsevlm.spec import (
    SPEC,
    Counts,
    SparseVLMSettings,
    clusters_of,
    recycled_of,
    scaled_sites,
)
from dpn_model.packing import ImageSpan
from tests.model.methods.packed_states import (
    Shown,
    alone,
    cached_and_whole,
    kept_rows,
    next_positions,
    prefilled,
    state_of,
)

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
SHAPE = base_shape("llava-1.5-7b")


def test_raters_are_the_words_above_the_mean() -> None:
    visual = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    words = torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    found = likeness(visual, words)
    torch.testing.assert_close(found, torch.tensor([0.599060, 0.240874, 0.160066]), atol=1e-6, rtol=0)
    assert found.mean().item() == pytest.approx(1 / 3)
    assert is_rater(found).tolist() == [True, False, False]
    assert is_rater(torch.tensor([0.5, 0.5])).tolist() == [True, True], "none is above the mean: all rate"


def test_words_stand_behind_the_picture_and_in_front_of_the_answer() -> None:
    state = state_of((2, 3, 4), (1, 2, 0))
    state.asking_rows_R[0] = 6  # two rows of question, two of answer
    embeddings = torch.randn(len(state.hidden_TD), 5, generator=torch.Generator().manual_seed(0))
    embeddings[5] = 100 * embeddings[2:5].mean(dim=0)
    state, spent = with_raters(state, embeddings)
    first, second = raters_of(state)
    assert first.tolist() == [5]
    assert second.tolist() == [9], "nothing stands behind it: its sample's last row of text"
    assert spent == (3 * 2 * 5, 0)


@pytest.mark.parametrize(("dropped", "clusters"), [(276, 9), (109, 4), (94, 3)])
def test_clusters_of_what_is_dropped(dropped: int, clusters: int) -> None:
    assert clusters_of(recycled_of(dropped)) == clusters


@pytest.mark.parametrize(
    ("version", "declared", "kept"),
    [
        ("v1", 192, (300, 200, 110)),
        ("v1", 128, (303, 110, 36)),
        ("v1", 96, (238, 48, 26)),
        ("v1", 64, (66, 30, 17)),
        ("v2", 192, (300, 200, 118)),
        ("v2", 128, (238, 108, 60)),
        ("v2", 96, (246, 54, 28)),
        ("v2", 64, (66, 34, 20)),
        ("v2", 112, (242, 81, 44)),
    ],
)
@pytest.mark.parametrize("as_share", [False, True])
def test_declared_budgets_are_the_authors_lists(version, declared: int, kept: tuple, as_share: bool) -> None:
    settings = SparseVLMSettings(version=version, keep=declared / 576 if as_share else declared)
    found, now = [], 576
    for site in range(3):
        found.append(settings.counts(site, 576, now))
        now = sum(found[-1])
    assert tuple(count.kept for count in found) == kept
    assert all((count.merged > 0) == (version == "v1") for count in found)


def test_tokens_declared_are_those_that_run() -> None:
    """The authors declare 192; their code runs 206.5."""
    planned = SPEC.plan(SparseVLMSettings(), SHAPE, 0).cheapest
    assert planned.visual_tokens == (576, 309, 204, 113)
    assert [count for count, _ in planned.stages] == [3, 4, 9, 16]
    assert planned.mean_visual_tokens() == 206.5
    cost = planned.prefill(SHAPE.decoder, "eq8")
    assert (cost.total / 1e9, cost.ratio) == (pytest.approx(1055.37, abs=0.005), pytest.approx(0.3534, abs=5e-5))
    second = SPEC.plan(SparseVLMSettings(version="v2"), SHAPE, 0).cheapest
    assert second.visual_tokens == (576, 300, 200, 118)


@torch.no_grad()
def test_tokens_planned_are_those_every_layer_holds(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method(Method("sparsevlm"))
    cache = prefilled(model, prompt_batch(QUESTIONS))
    report = model.last_routing
    planned = SPEC.plan(SparseVLMSettings(), model.model_shape, report.text_tokens[0]).cheapest
    assert report.ledger(0).mean_visual_tokens() == planned.mean_visual_tokens()
    visual = [
        tokens for tokens, (count, _) in zip(planned.visual_tokens, planned.stages, strict=True) for _ in range(count)
    ]
    for layer, tokens in enumerate(visual):
        assert cache.stage(layer).lengths == tuple(count + tokens for count in report.text_tokens)


def test_sites_are_the_authors_scaled() -> None:
    assert [scaled_sites(layers) for layers in (4, 8, 32, 40)] == [(1, 2, 3), (1, 2, 4), (3, 7, 16), (4, 9, 20)]
    with pytest.raises(ValueError, match="the default needs 4 layers, this decoder has 3"):
        SparseVLMSettings().resolve_sites(3)
    with pytest.raises(ValueError, match=r"sites = \[2\]: the lists of tokens are for three sites"):
        SparseVLMSettings(sites=(2,))


def test_density_peaks_finds_the_groups_and_says_so_again() -> None:
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    near = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.1, 0.1]])
    points = (groups[:, None] + near).flatten(0, 1)
    centres, clusters = density_peaks(points, 3)
    assert sorted((centres // 4).tolist()) == [0, 1, 2]
    assert all(len(set(one)) == 1 for one in clusters.view(3, 4).tolist())
    again = density_peaks(points, 3)
    assert torch.equal(again[0], centres)
    assert torch.equal(again[1], clusters)
    same = density_peaks(torch.ones(4, 2), 2)
    assert same[1][same[0]].tolist() == [0, 1], "a centre is of its own cluster, whatever the distances"


def test_a_merged_token_is_the_mean_behind_what_is_kept() -> None:
    settings = SparseVLMSettings(keep=2 / 9)
    state, _ = with_raters(state_of((2, 36, 3)), torch.zeros(41, 4))
    assert settings.counts(1, 36, 36) == Counts(7, 1)
    after, record = SparseVLM(7, 1, settings)(state, Shown(state, [range(36)]))
    assert kept_rows(state, after)[:9] == [0, 1, *range(31, 38)]
    assert record.tokens_out == (8,)
    dropped_best = torch.arange(29 - recycled_of(29), 29) + 2.0
    assert after.hidden_TD[9, 0].item() == pytest.approx(dropped_best.mean().item())
    assert after.weight_T is not None
    assert after.weight_T[2:10].tolist() == [1.0] * 7 + [9.0]
    assert record.macs == {"selector": (9**2 * 4,)}
    assert next_positions(after) == [13]


def test_the_second_version_keeps_positions_and_merges_nothing() -> None:
    settings = SparseVLMSettings(keep=2 / 9, version="v2", rope_correction=False)
    state, _ = with_raters(state_of((2, 40, 3)), torch.zeros(45, 4))
    after, record = SparseVLM(7, 1, settings)(state, Shown(state, [range(40)]))
    assert (record.tokens_out, next_positions(after)) == ((8,), [45])


def test_the_strongest_heads_rank() -> None:
    settings = SparseVLMSettings(keep=2 / 9, version="v2", rope_correction=False, heads=0.5)
    state, _ = with_raters(state_of((1, 4, 1)), torch.zeros(6, 4))
    heads = [[0.1, 0.1, 0.1, 0.1], [0.0, 0.6, 0.0, 0.3], [0.9, 0.0, 0.0, 0.0], [0.2, 0.0, 0.0, 0.0]]
    scores = SparseVLM(7, 1, settings).scores(state, Shown(state, [heads]))
    torch.testing.assert_close(scores[0], torch.tensor([0.45, 0.3, 0.0, 0.15]))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_bias_is_the_score_of_turned_ones(interleaved: bool) -> None:
    size, turned, positions = 8, 6, torch.arange(9.0)
    angles = positions[:, None] * torch.tensor([1.0, 0.3, 0.05])
    angles = angles.repeat_interleave(2, dim=1) if interleaved else torch.cat([angles, angles], dim=1)
    sign = torch.tensor([-1.0, 1.0] * 3 if interleaved else [-1.0] * 3 + [1.0] * 3)
    ones = torch.cat([angles.cos() + sign * angles.sin(), torch.ones(9, size - turned)], dim=1)
    wanted = ones @ ones.T / math.sqrt(size)
    found = rope_bias(ImageSpan(0, 2, 1, 4), np.array([6, 8]), (angles.cos(), angles.sin()), size)
    torch.testing.assert_close(found, wanted[[6, 8], 2:6])


def test_multimodal_positions_are_refused_where_they_would_be_corrected() -> None:
    base = SimpleNamespace(text_config=SimpleNamespace(rope_parameters={"mrope_section": [1, 2, 3]}))
    with pytest.raises(ValueError, match="rope_correction = true: this base has multimodal positions"):
        build(SparseVLMSettings(version="v2"), Host(8, 96, base))
    build(SparseVLMSettings(version="v2", rope_correction=False), Host(8, 96, base))


@pytest.mark.parametrize("settings", [{}, {"version": "v2"}, {"positions": "keep", "keep": 0.6}])
def test_decoding_behind_the_cache_is_the_whole_pass_under_the_same_choice(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, settings: dict
) -> None:
    model.configure_method(Method("sparsevlm", **settings))
    step, whole = cached_and_whole(model, alone(prompt_batch(QUESTIONS), 0))
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_its_budget_reaches_what_others_run_with(version) -> None:
    for share in (192 / 576, 128 / 576):
        found = at_budget(SPEC, SparseVLMSettings(version=version), SHAPE, share)
        assert math.isclose(share_of(SPEC, found, SHAPE), share, abs_tol=1 / 576)
