"""M3: scales of a picture, one pass over all of them in training (arXiv 2405.17430; spec peer-methods 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.contract import Parts
from dpn_model.methods.m3.spec import SCALES, SPEC, M3Settings
from tests.model.methods.toys import Select, SelectSettings

MakeBatch = Callable[..., dict[str, Tensor]]


@pytest.mark.parametrize(("scale", "tokens"), list(zip(SCALES, (576, 144, 36, 9, 1), strict=True)))
def test_scales_of_the_papers_grid(scale: str, tokens: int) -> None:
    shape = base_shape("llava-1.5-7b")
    ledger = SPEC.plan(M3Settings(scale=scale), shape, 0).dearest
    assert ledger.visual_tokens[-1] == tokens
    total = {576: 2986.08, 144: 730.21, 36: 181.53, 9: 45.32, 1: 5.03}  # spec peer-methods 1
    assert round(ledger.prefill(shape.decoder, "eq8").total / 1e9, 2) == total[tokens]


def test_a_budget_is_the_nearest_scale() -> None:
    shape = base_shape("llava-1.5-7b")
    assert at_budget(SPEC, M3Settings(), shape, 0.25).scale == "2x2"
    assert at_budget(SPEC, M3Settings(), shape, 0.06).scale == "4x4"


@pytest.mark.parametrize(
    ("grid", "scales"),
    [
        ((24, 24), ("1x1", "2x2", "4x4", "8x8", "24x24")),
        ((8, 8), ("1x1", "2x2", "4x4", "8x8")),
        ((7, 7), ("1x1", "2x2", "4x4", "7x7")),
        (None, ("1x1", "2x2", "4x4", "8x8")),
    ],
)
def test_scales_follow_the_grid(grid: tuple[int, int] | None, scales: tuple[str, ...]) -> None:
    assert M3Settings().on_grid(grid).scales == scales


@torch.no_grad()
def test_a_scale_is_the_mean_of_the_projected_tokens(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    model.configure_method({"name": "m3", "scale": "4x4"})
    seen: list[Any] = []
    model.parts.reducers[0].register_forward_hook(lambda module, given, out: seen.append((given[0], out[0])))
    model(**prompt_batch(["is it"]))
    (before, after), *_ = seen
    grid = before.hidden_TD[before.kind_T == 1].T.view(1, -1, 8, 8)
    torch.testing.assert_close(after.hidden_TD[after.kind_T == 1], avg_pool2d(grid, 4)[0].flatten(1).T)


def test_the_loss_is_the_mean_over_the_scales(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    batch = training_batch(router=False)
    alone = []
    for scale in ("1x1", "2x2", "4x4", "8x8"):
        model.configure_method({"name": "m3", "scale": scale})
        alone.append(model(**batch).loss)  # in evaluation the picked scale alone
    model.configure_method({"name": "m3"})
    out = model.train()(**batch)
    torch.testing.assert_close(out.loss, torch.stack(alone).mean())
    out.loss.backward()
    theirs = [weight.grad.clone() for weight in model.model.multi_modal_projector.parameters()]
    model.zero_grad()
    model.eval()
    for scale in ("1x1", "2x2", "4x4", "8x8"):
        model.configure_method({"name": "m3", "scale": scale})
        (model(**batch).loss / 4).backward()
    for mine, weight in zip(theirs, model.model.multi_modal_projector.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, atol=1e-6, rtol=1e-4)


def test_what_training_ran_is_counted(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    batch = training_batch(router=False)
    model.configure_method({"name": "m3"})
    once = model(**batch)
    several = model.train()(**batch)
    assert several.num_supervised_tokens == once.num_supervised_tokens
    routing = several.routing
    assert routing.num_samples == 12
    assert [routing.route(sample)[0] for sample in range(0, 12, 3)] == ["1x1", "2x2", "4x4", "8x8"]
    assert [routing.route(sample)[0] for sample in range(1, 12, 3)] == ["-"] * 4
    assert [routing.visual_tokens_per_stage(sample) for sample in range(2, 12, 3)] == [
        (64, 64), (64, 16), (64, 4), (64, 1)
    ]  # fmt: skip
    assert sum(routing.cost(sample).vision for sample in range(12)) == sum(
        once.routing.cost(sample).vision for sample in range(3)
    )
    text = model(input_ids=torch.tensor([[3, 9, 10]]), labels=torch.tensor([[3, 9, 10]]))
    assert text.routing.num_samples == 1


def test_a_drawn_scale_runs_once(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({"name": "m3", "training": "sampled", "scales": ["2x2", "8x8"]})
    model.train()
    torch.manual_seed(0)
    routes = {model(**training_batch(router=False)).routing.route(0)[0] for _ in range(12)}
    assert routes == {"2x2", "8x8"}
    assert model.last_routing.num_samples == 3
    model.eval()
    assert model(**training_batch(router=False)).routing.route(0) == ("1x1",)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"scale": "half"}, "unknown kernel 'half'"),
        ({"sites": (2, 5)}, "m3 pools once"),
        ({"scales": ()}, "scales is empty"),
    ],
)
def test_what_is_refused(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        M3Settings(**wrong)


def test_a_scale_that_does_not_fit_is_refused_by_plan_and_model(model: DpnForConditionalGeneration) -> None:
    settings = Method("m3", scale="9x9")
    with pytest.raises(ValueError, match="scale = 9x9: too large for a grid of 8x8"):
        SPEC.plan(settings, model.model_shape, 0)
    with pytest.raises(ValueError, match="scale = 9x9: too large for a grid of 8x8"):
        model.configure_method(settings)
    with pytest.raises(ValueError, match="scale = all: every picture of this base has its own grid"):
        M3Settings(scale="all").on_grid(None)


def test_copies_are_made_behind_the_tower() -> None:
    with pytest.raises(ValueError, match="copies = 2: samples are copied behind tower"):
        Parts(selector=Select(SelectSettings()), copies=2)
