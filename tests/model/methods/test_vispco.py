"""VisPCO: schedules that cost the budget, a mask that lets them learn, one predictor for all budgets (2604.15188)."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.contract import LossInputs
from dpn_model.methods.distillation import divergence_from_first
from dpn_model.methods.vispco.choice import Choice
from dpn_model.methods.vispco.losses import augmented_lagrangian
from dpn_model.methods.vispco.mask import LEFT, bias_of, ranks_of, straight_through_mask
from dpn_model.methods.vispco.schedule import (
    budget_tokens,
    fitted_counts,
    flattest_counts,
    predicted_counts,
    steepest_counts,
    steps,
)
from dpn_model.methods.vispco.spec import BUDGETS, SPEC, VispcoSettings

MakeBatch = Callable[..., dict[str, Tensor]]


def test_the_step_is_soft_at_the_layer() -> None:
    assert steps(2.0, 5) == pytest.approx((4.5398e-5, 0.5, 1 - 4.5398e-5, 1.0), abs=1e-7)
    assert predicted_counts(2.0, 0.25, 6, 64) == (64, 64, 40, 16, 16, 16)
    assert predicted_counts(2.0, 1e-4, 4, 64) == (64, 64, 32, 1), "one token at least"
    assert predicted_counts(0.0, 0.5, 3, 64) == (64, 32, 32), "nothing ranks in front of the first layer"


def test_a_fitted_ratio_spends_the_budget() -> None:
    # 192 of 384; what is dropped behind k is 192 / (0.5 + 1 + 1 + 1) = 54.857: 63.998, 36.571, 9.145, 9.143, 9.143.
    assert fitted_counts(2.0, 0.5, 6, 64) == (64, 64, 37, 9, 9, 9)
    # After k = 5 the budget would be overdrawn: the step comes earlier, and leaves one token.
    assert fitted_counts(5.0, 0.5, 6, 64)[-2:] == (1, 1)
    assert fitted_counts(5.0, 1.0, 6, 64) == (64,) * 6
    assert flattest_counts(0.5, 6, 64) == (64, 26, 26, 26, 25, 25)
    assert steepest_counts(0.5, 6, 64) == (64, 64, 61, 1, 1, 1)
    assert steepest_counts(1.0, 6, 64) == (64,) * 6
    assert steepest_counts(0.3, 6, 1) == (1,) * 6


def test_all_schedules_of_a_budget_cost_the_same_and_lie_between_the_plans() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        layers, tokens = draw.randint(2, 40), draw.choice([1, 2, 7, 64, 576])
        layer, budget = draw.uniform(0, layers), draw.choice([draw.uniform(0.001, 1), *BUDGETS])
        counts = fitted_counts(layer, budget, layers, tokens)
        flat, steep = (bound(budget, layers, tokens) for bound in (flattest_counts, steepest_counts))
        assert {sum(flat), sum(steep), sum(counts)} == {budget_tokens(budget, layers, tokens)}
        assert len(counts) == layers
        assert counts[0] == tokens
        assert counts[-1] >= 1
        assert all(before >= after for before, after in pairwise(counts))
        for low, mine, high in zip(*map(accumulate, (flat, counts, steep)), strict=True):
            assert low <= mine <= high


def test_a_budget_out_of_reach_is_what_can_be_reached() -> None:
    assert budget_tokens(0.01, 32, 576) == 576 + 31
    assert budget_tokens(1.0, 32, 576) == 32 * 576


@pytest.mark.parametrize("share", [1 / 3, 1 / 9, 0.9])
def test_a_budget_is_a_share_of_tokens_whatever_the_shape(share: float) -> None:
    shape = base_shape("llava-1.5-7b")
    settings = at_budget(SPEC, VispcoSettings(), shape, share)
    assert share_of(SPEC, settings, shape) == pytest.approx(share, abs=1 / 576)
    cheapest, dearest = SPEC.plan(settings, shape, 0)
    assert cheapest.mean_visual_tokens() == dearest.mean_visual_tokens()
    ratios = [ledger.prefill(shape.decoder, "eq8").ratio for ledger in (cheapest, dearest)]
    assert ratios == pytest.approx([share, share], abs=0.011), "FLOPs but for the square in attention"


def test_who_predicts_the_cost_has_none_to_turn() -> None:
    with pytest.raises(
        ValueError, match=r"budget = 0.333333 is out of reach of method vispco: its budget reaches 0.516"
    ):
        at_budget(SPEC, VispcoSettings(ratio="predicted"), base_shape("llava-1.5-7b"), 1 / 3)


def test_dropped_rows_rank_behind_all_others() -> None:
    score_V = torch.tensor([0.1, 0.4, 0.2, 0.4, 0.9])
    assert ranks_of(score_V, torch.ones(5, dtype=torch.bool)).tolist() == [4, 1, 3, 2, 0]
    assert ranks_of(score_V, torch.tensor([True, True, True, True, False])).tolist() == [3, 0, 2, 1, 4]


def test_the_mask_is_hard_forward_and_soft_backward() -> None:
    share = torch.tensor(0.5, requires_grad=True)
    mask_V = straight_through_mask(torch.tensor([2, 0, 3, 1]), share, 2, 0.1)
    assert mask_V.tolist() == [0.0, 1.0, 0.0, 1.0]
    # places 0.625, 0.125, 0.875, 0.375: sigmoid'(±1.25) = 0.173105, sigmoid'(±3.75) = 0.022449, over 0.1
    for row, slope in enumerate((1.73105, 0.224494, 0.224494, 1.73105)):
        assert torch.autograd.grad(mask_V[row], share, retain_graph=True)[0].item() == pytest.approx(slope, rel=1e-4)
    biases_V = bias_of(mask_V)
    assert biases_V.tolist() == pytest.approx([-13.8155, 0.0, -13.8155, 0.0], abs=1e-4)
    # d log(m + ε) = 1 / (m + ε): at 0 it undoes the ε that a dropped row weighs in attention, up to the largest of a
    # kept row's slopes.
    upstream_V = torch.tensor([0.25 * LEFT, 2.0, -1.0, 1.0])
    slopes = torch.autograd.grad(biases_V, mask_V, upstream_V)[0]
    assert slopes.tolist() == pytest.approx([0.25, 2.0, -2.0, 1.0], rel=1e-4)


def test_the_multiplier_climbs_by_the_gap() -> None:
    gaps_B = torch.tensor([0.5, -1.5], requires_grad=True)
    weight = torch.nn.Parameter(torch.tensor([0.02]))
    loss = augmented_lagrangian(gaps_B, weight, speed=100.0, penalty=1.0)
    assert loss.item() == pytest.approx(-0.1 * 2 * -0.5 + (0.25 + 2.25) / 2)
    loss.backward()
    assert gaps_B.grad is not None
    assert gaps_B.grad.tolist() == pytest.approx([0.4, -1.6])
    torch.optim.SGD([weight], lr=0.1).step()
    assert weight.item() == pytest.approx(0.02 - 0.1 * -0.5), "w <- w - rate * c: too dear, so cost weighs more"


def test_the_gap_is_what_the_schedule_costs_too_much() -> None:
    predicted_2 = torch.tensor([2.0, 0.25], requires_grad=True)
    choice = Choice(predicted_2, 2.0, 0.25, 0.5, 6, 64, torch.zeros(1))
    # Of 6 layers 3 are allowed; 1 + 1 + 0.625 + 3 * 0.25 are spent, the tails of the step cancelling
    assert choice.gap().item() == pytest.approx((3 - 3.375) / 6, abs=1e-5)
    choice.gap().backward()
    # d cost / dr = 3.5 / 6; d cost / dk = (1 - r) * 10 * (0.25 + two tails of 4.54e-5) / 6
    assert predicted_2.grad is not None
    assert predicted_2.grad.tolist() == pytest.approx([-0.312613, -0.583333], rel=1e-4)
    assert choice.share(2).item() == pytest.approx(0.625)
    assert Choice(predicted_2, 2.0, 0.25, 0.01, 6, 64, torch.zeros(1)).gap().item() == pytest.approx(
        (69 / 64 - 3.375) / 6
    )


def test_the_first_copy_teaches_and_does_not_learn() -> None:
    logits_RC = torch.tensor([[0.0, 0.0], [1.0, -1.0]], requires_grad=True)
    divergence = divergence_from_first(logits_RC, 2)
    # 0.5 * ln(0.5 / 0.880797) + 0.5 * ln(0.5 / 0.119203)
    assert divergence.tolist() == [[pytest.approx(0.433781, abs=1e-5)]]
    divergence.sum().backward()
    assert logits_RC.grad is not None
    assert logits_RC.grad.flatten().tolist() == pytest.approx([0, 0, 0.380797, -0.380797], abs=1e-5)


class Told:
    """Keeps what the loss could see."""

    name, weight, joins_language_loss = "told", 1.0, False

    def __call__(self, seen: LossInputs) -> None:
        self.seen = seen


def always(model: DpnForConditionalGeneration, schedules: list[tuple[float, float]]) -> Told:
    """The predictor says this of the samples with pictures, in order; its weights take part all the same."""
    predictor, told = model.parts.reducers[0].predictor, Told()
    forward = type(predictor).forward

    def predict(rows: Tensor, lengths: Any, budgets: Tensor) -> Tensor:
        return forward(predictor, rows, lengths, budgets) * 0 + torch.tensor(schedules)[: len(lengths)]

    predictor.forward = predict
    model.parts.losses = (*model.parts.losses, told)
    return told


def test_the_masked_copy_says_what_the_dropped_one_would(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    batch = training_batch(router=False)
    model.configure_method({"name": "vispco", "ratio": "predicted"})
    told = always(model, [(2.0, 0.3), (4.4, 0.1), (1.2, 0.6)])
    model.eval()(**batch)
    dropped = told.seen
    assert len(set(map(tuple, (record.tokens_out for record in dropped.reductions)))) > 3
    model.train()(**batch)
    masked, half = told.seen, len(told.seen.sample_R) // 2
    torch.testing.assert_close(masked.logits_RC[half:], dropped.logits_RC, atol=1e-4, rtol=1e-4)
    assert [record.choices[masked.final.num_samples // 2 :] for record in masked.reductions] == [
        record.choices for record in dropped.reductions
    ]
    model.configure_method({"name": "dense"})
    model.parts.losses = (told,)
    model(**batch)
    torch.testing.assert_close(masked.logits_RC[:half], told.seen.logits_RC, atol=1e-5, rtol=1e-5)


def test_a_schedule_hears_what_its_mask_costs(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    batch = training_batch(router=False)
    model.configure_method({"name": "vispco"})
    told = always(model, [(1.5, 0.4)] * 3)
    torch.manual_seed(0)
    loss = model.train()(**batch).loss_terms["kl"]
    predicted = [choice.predicted_2 for choice in told.seen.final.passages if choice is not None]
    slopes = torch.autograd.grad(loss, predicted)
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert all(slope[1] != 0 for slope in slopes)
    assert loss.item() > 0


@torch.no_grad()
def test_every_sample_costs_the_budget_in_its_own_shape(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method({"name": "vispco", "budget": 0.5})
    always(model, [(0.4, 0.9), (2.5, 0.9), (7.0, 0.9)])
    routing = model.eval()(**prompt_batch(["is it", "what colour is it ?", "is there a red circle ?"])).routing
    ledgers = [routing.ledger(sample) for sample in range(3)]
    pictured = [ledger for ledger in ledgers if ledger.packed.visual]
    assert len(pictured) >= 2
    assert [ledger.mean_visual_tokens() for ledger in pictured] == [32.0] * len(pictured)
    assert len({ledger.visual_tokens for ledger in pictured}) == len(pictured)
    shape = model.model_shape.decoder
    ratios = [ledger.prefill(shape, "eq8").ratio for ledger in pictured]
    assert ratios == pytest.approx([0.5] * len(pictured), abs=0.1), "a toy's attention is a quarter of its FLOPs"


@torch.no_grad()
def test_a_sample_that_drops_nothing_pays_no_ranking(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method({"name": "vispco", "budget": 1.0})
    routing = model.eval()(**prompt_batch(["is it"])).routing
    assert "probe" not in routing.ledger(0).macs
    assert routing.ledger(0).macs["predictor"] > 0


@torch.no_grad()
def test_samples_of_a_training_batch_go_through_the_budgets(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method({"name": "vispco"})
    told, found = always(model, [(2.0, 0.3)] * 3), set()
    for seed in range(12):
        torch.manual_seed(seed)
        model.train()(**training_batch(router=False))
        own = [BUDGETS.index(choice.budget) for choice in told.seen.final.passages if choice is not None]
        assert own == [(own[0] + number) % 20 for number in range(len(own))]
        found.update(own)
    assert len(found) > 10
    assert (BUDGETS[0], BUDGETS[-1], len(BUDGETS)) == (0.01, 0.95, 20)


def test_on_a_frozen_base_the_predictor_learns_to_meet_its_budgets(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    model.configure_method({"name": "vispco"})
    model.requires_grad_(False)
    model.reducers.requires_grad_(True)
    told, batch = Told(), training_batch(router=False)
    model.parts.losses = (*model.parts.losses, told)
    optimizer = torch.optim.AdamW(model.reducers.parameters(), lr=1e-2, weight_decay=0)
    torch.manual_seed(0)
    misses = []
    for _ in range(100):
        optimizer.zero_grad()
        model.train()(**batch).loss.backward()
        optimizer.step()
        gaps = [choice.gap().detach().abs() for choice in told.seen.final.passages if choice is not None]
        misses.append(float(torch.stack(gaps).mean()))
    before, after = sum(misses[:10]) / 10, sum(misses[-10:]) / 10
    assert after < 0.35 * before, f"mean gap, in shares: {before:.3f} at first, {after:.3f} behind 100 steps"
    assert all(weight.grad is not None for weight in model.reducers.parameters())


def test_the_predictor_hears_no_answer_and_leaves_embeddings_alone(
    model: DpnForConditionalGeneration, training_batch: MakeBatch
) -> None:
    batch = training_batch(router=False)
    model.configure_method({"name": "vispco"})
    heard: list[tuple[Tensor, list[int]]] = []
    predictor = model.parts.reducers[0].predictor
    predictor.register_forward_pre_hook(lambda module, given: heard.append((given[0], given[1])))
    model.train()(**batch)
    rows, lengths = heard[0]
    assert not rows.requires_grad
    pictured = [row for row, ids in enumerate(batch["input_ids"]) if (ids == model.image_token_id).any()]
    prompts = [int((batch["labels"][row] != -100).nonzero()[0]) for row in pictured]
    padding = [int((batch["attention_mask"][row] == 0).sum()) for row in pictured]
    left_padded = not bool(batch["attention_mask"][:, 0].all())
    assert lengths == [own - (pad if left_padded else 0) for own, pad in zip(prompts, padding, strict=True)]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"budget": 0.0}, "budget = 0.0; it must be above 0 and at most 1"),
        ({"budget": 1.5}, "budget = 1.5; it must be above 0 and at most 1"),
        ({"ratio": "exact"}, "ratio = 'exact'; allowed: fitted, predicted"),
        ({"temperature": 0.0}, "temperature = 0.0; it must be above 0"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        VispcoSettings(**wrong)
