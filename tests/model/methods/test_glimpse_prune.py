"""GlimpsePrune: its losses, masks and counts by hand, and what learns from them (arXiv 2508.01548; frontier A1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.glimpse_prune.predictor import ConditionedLayer, turned, turns_of
from dpn_model.methods.glimpse_prune.spec import SPEC, GlimpsePruneSettings
from dpn_model.methods.glimpse_prune.target import Lesson, MaskLoss, chosen, held, mask_losses, masks
from dpn_model.methods.projecting.settings import Sizes
from tests.model.methods.packed_states import Shown, state_of

MakeBatch = Callable[..., dict[str, Tensor]]
NAME: dict[str, Any] = {"name": "glimpse_prune", "width": 32}
DEFAULT = GlimpsePruneSettings()


def test_dice_and_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[math.log(3), -math.log(3), 0.0], [0.0, 0.0, 0.0]])  # 3/4, 1/4, 1/2
    mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    dice = [1 - 1.5 / 2.5, 1 - 3 / 4.5]
    bce = [(2 * math.log(4 / 3) + math.log(2)) / 3, math.log(2)]
    for settings, weights in ((DEFAULT, (1, 0.1)), (GlimpsePruneSettings(dice_weight=0, bce_weight=2), (0, 2))):
        expected = [weights[0] * one + weights[1] * other for one, other in zip(dice, bce, strict=True)]
        assert mask_losses(logits, mask, settings).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_sample_counts_once_however_many_pictures_it_has() -> None:
    logits_LIV, mask_IV = torch.randn(2, 3, 5), torch.tensor([[1.0, 0, 0, 1, 0]] * 3)
    lessons = [Lesson(logits_LIV, mask_IV, (1, 1, 4))]
    term = MaskLoss(DEFAULT, lessons)
    each = sum(mask_losses(one, mask_IV, DEFAULT) for one in logits_LIV)  # summed over the predictor's layers
    torch.testing.assert_close(term(None), (each[0] / 2 + each[1] / 2 + each[2]) / 2)
    assert term(None) is None, "a lesson is read once"


def test_what_stays_is_above_the_threshold_within_the_cap_and_never_nothing() -> None:
    logits = torch.tensor([[-1.0, 2.0, 0.5, 3.0, 0.0], [-3.0, -1.0, -2.0, -1.0, -9.0], [1.0, 1.0, 1.0, 1.0, 1.0]])

    def kept(threshold: float, most: int) -> list[list[int]]:
        return [rows.tolist() for rows in chosen(logits, threshold, most)]

    assert kept(0.5, 5) == [[1, 2, 3], [1], [0, 1, 2, 3, 4]]
    assert kept(0.5, 2) == [[1, 3], [1], [0, 1]]
    assert kept(0.9, 5) == [[3], [1], [0]]
    assert kept(0.0, 5) == [[0, 1, 2, 3, 4]] * 3
    assert (DEFAULT.most(576), GlimpsePruneSettings(max_keep=0.111).most(576)) == (576, 63)  # cut off, as the authors


def test_a_mask_is_the_fewest_tokens_that_hold_the_mass() -> None:
    scores = torch.tensor([[0.1, 0.4, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25]])
    assert held(scores, 0.5).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    assert held(scores, 0.3).tolist() == [[0, 1, 0, 0], [1, 1, 0, 0]]
    assert held(scores, 1.0).tolist() == [[1, 1, 1, 1]] * 2


def test_masks_come_from_the_rows_behind_the_prompt() -> None:
    state = state_of((2, 3, 4), (3, 0, 0), (1, 3, 2))
    state.asking_rows_R[0] = 6  # of the first sample's nine rows two are an answer
    probe = Shown(state, [[0.1, 0.7, 0.2], [0.4, 0.3, 0.3]])
    asked: list[list[int]] = []
    attention = probe.attention
    probe.attention = lambda rows: (asked.append(rows.tolist()), attention(rows))[1]
    assert masks(state, probe, 0.6).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert asked == [[6, 7, 8, 17]]


def test_the_plan_prunes_the_cache_of_all_layers_and_the_work_of_the_last() -> None:
    shape = base_shape("llava-1.5-7b")
    ledger = SPEC.plan(GlimpsePruneSettings(max_keep=43), shape, 40).dearest  # 92.6% pruned
    assert ledger.visual_tokens == (576, 43)
    assert ledger.mean_visual_tokens() == (22 * 576 + 10 * 43) / 32
    assert ledger.kv_bytes(shape.decoder) == 32 * (43 + 40) * 2 * 4096 * 2
    whole = SPEC.plan(GlimpsePruneSettings(max_keep=43, early_cache="whole"), shape, 40).dearest
    assert whole.kv_bytes(shape.decoder) == (22 * 616 + 10 * 83) * 2 * 4096 * 2
    assert whole.prefill(shape.decoder, "swiglu") == ledger.prefill(shape.decoder, "swiglu")
    row = 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 617 * 4096
    assert ledger.macs["glimpse"] == 22 * (4096**2 + row)
    layer = 1024 * 256 + 2 * 512**2 + 2 * 256**2 + 3 * 256 * 512 + 256
    assert ledger.macs["predictor"] == 576 * (32 * 256 + 4 * (layer + 576 * 3 * 256))
    assert ledger.macs["probe"] == 617 * 4096
    assert DEFAULT.resolve_sites(40) == (28,)
    assert Sizes.of(shape).levels(None, (23 / 24, 5 / 24)) == (23, 5)


def test_a_budget_aims_the_cap() -> None:
    shape = base_shape("llava-1.5-7b")
    found = at_budget(SPEC, GlimpsePruneSettings(sites=(8,)), shape, 1 / 3)
    assert found.max_keep == pytest.approx(2 / 9, abs=2 / 576)  # a quarter runs all, the rest half of the cap at a mean


def test_positions_turn_by_rows_in_the_first_half_and_columns_in_the_second() -> None:
    turns = turns_of((2, 3), 8)
    assert turns.shape == (6, 4)
    assert turns[4].tolist() == pytest.approx([1, 0.01, 1, 0.01])  # row 1, column 1
    assert turns[2].tolist() == pytest.approx([0, 0, 2, 0.02])
    heads = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]).expand(1, 1, 6, 8)
    assert turned(heads, turns)[0, 0, 4].tolist() == pytest.approx([math.cos(1), 0, 0, 0, math.sin(1), 0, 0, 0])


def test_the_tower_says_where_to_look_and_not_what_is_seen() -> None:
    layer = ConditionedLayer(16, 2)
    hidden, level = torch.randn(1, 6, 16), torch.randn(1, 6, 16)
    assert not torch.allclose(layer(hidden, level, (2, 3)), layer(hidden, torch.zeros_like(level), (2, 3)))
    alike = hidden[:, :1].expand(1, 6, 16)  # of equal values any mean is the same
    torch.testing.assert_close(layer(alike, level, (2, 3)), layer(alike, torch.zeros_like(level), (2, 3)))


def test_a_glimpse_on_a_frozen_base_learns_alone(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method(NAME)
    model.requires_grad_(False)
    model.reducers.requires_grad_(True)
    out = model.train()(**training_batch(router=False))
    assert set(out.loss_terms) == {"mask"}
    torch.testing.assert_close(out.loss, out.loss_lm + out.loss_terms["mask"])
    out.loss.backward()
    pruner = model.parts.reducers[6]
    for name, weight in pruner.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
    assert all(row.any() for row in pruner.rider.embedding_LD.grad), "a layer's embedding learns nothing"
    assert pruner.lessons == []


def test_masks_are_learned_and_counts_differ(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({**NAME, "mass": 0.8})
    model.requires_grad_(False)
    model.reducers.requires_grad_(True)
    batch, optimizer = training_batch(router=False), torch.optim.AdamW(model.reducers.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        term = model.train()(**batch).loss_terms["mask"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        losses.append(term.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        routing = model.eval()(**batch).routing
    assert routing.route(1) == ("-",)
    assert 0 < int(routing.route(0)[0]) != int(routing.route(2)[0]) < 64


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"sites": (2, 4)}, "glimpse_prune drops once; allowed: one layer"),
        ({"sites": (8,)}, "allowed: different layers from 0 to 7"),
        ({"levels": (5,)}, "allowed with this base's tower: 0 to 4"),
        ({"levels": ()}, "levels is empty"),
        ({"width": 30}, "allowed: multiples of 8"),
        ({"threshold": 1.0}, "it must be 0 or above and below 1"),
        ({"max_keep": 2.5}, "allowed: a share up to 1, or a whole number"),
    ],
)
def test_what_is_refused(model: DpnForConditionalGeneration, wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        SPEC.plan(GlimpsePruneSettings(**wrong), model.model_shape, 0)
    with pytest.raises(ValueError, match=line):
        model.configure_method({"name": "glimpse_prune", **wrong})
