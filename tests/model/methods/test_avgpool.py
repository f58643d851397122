"""Average pooling around the base's own projector: what it pools, what it costs, and that the projector stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.avgpool.selector import AvgPool
from dpn_model.methods.budgets import at_budget
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.registry import find_method
from dpn_model.methods.rows import pick_rows
from dpn_model.packing import ImageSpan

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it"]


def test_the_mean_of_every_window() -> None:
    spans = [ImageSpan(0, 0, 4, 4), ImageSpan(0, 16, 2, 4)]
    grid = torch.cat([torch.arange(16.0), torch.arange(8.0)])[:, None]
    rows = AvgPool(Method("avgpool"))(grid, spans, VisionProbe(()))
    assert pick_rows(grid, spans, rows).flatten().tolist() == [2.5, 4.5, 10.5, 12.5, 2.5, 4.5]
    assert [(one.height, one.width, one.is_grid) for one in rows] == [(2, 2, True), (1, 2, True)]
    with pytest.raises(ValueError, match="kernel = 3x2 does not divide this base's grid of 4x4"):
        AvgPool(Method("avgpool", kernel="3x2"))(grid, spans, VisionProbe(()))


@torch.no_grad()
def test_in_front_of_the_projector_or_behind_it(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)
    features = model.image_side.tower(model.model, batch["pixel_values"], {}, ())[0].features_PC
    own, seen = model.model.multi_modal_projector, {}
    model.model.language_model.layers[0].register_forward_pre_hook(lambda _, given: seen.update(hidden=given[0]))

    def pooled(rows: Tensor) -> Tensor:
        return avg_pool2d(rows.T.unflatten(1, (8, 8)), (2, 4)).flatten(1).T

    expected = {"pre": own(pooled(features)[None])[0], "post": pooled(own(features[None])[0])}
    for where, tokens in expected.items():
        model.configure_method({"name": "avgpool", "kernel": "2x4", "where": where})
        routing = model(**batch).routing
        image = model.pack(batch["input_ids"], batch["attention_mask"], batch["pixel_values"]).state.images[0]
        torch.testing.assert_close(seen["hidden"][0, image.start : image.start + 8], tokens, atol=1e-5, rtol=1e-5)
        assert (routing.visual_tokens_per_stage(0), routing.route(0)) == ((64, 8), ("2x4",))
        assert (image.height, image.width, image.is_grid) == (4, 2, True)
        assert model.model.multi_modal_projector is own
        projected = 8 if where == "pre" else 64
        assert routing.cost(0, "swiglu").projector == projected * (64 * 96 + 96 * 96)
        planned = find_method("avgpool").plan(model.config.method_settings, model.model_shape, routing.text_tokens[0])
        shape = model.model_shape
        assert planned.cheapest.stages == routing.ledger(0).stages
        assert shape.vision_and_projector(planned.cheapest) == shape.vision_and_projector(routing.ledger(0))
    assert (expected["pre"] - expected["post"]).abs().max() > 1e-4


@torch.no_grad()
def test_cells_of_one_are_the_base(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    batch = prompt_batch(QUESTIONS)
    dense = model(**batch).logits
    for where in ("pre", "post"):
        model.configure_method({"name": "avgpool", "kernel": "1x1", "where": where})
        torch.testing.assert_close(model(**batch).logits, dense, atol=1e-5, rtol=1e-5)


def test_costs_and_budgets_of_llava() -> None:
    shape, spec = base_shape("llava-1.5-7b"), find_method("avgpool")
    for where, giga_macs in (("pre", 3.02), ("post", 12.08)):
        ledger = spec.plan(Method("avgpool", where=where), shape, 60).cheapest
        assert round(shape.vision_and_projector(ledger)[1] / 1e9, 2) == giga_macs
    assert spec.needs_training == "stage 2"
    assert at_budget(spec, Method("avgpool"), shape, 1 / 9).kernel == "3x3"
    assert at_budget(spec, Method("avgpool"), base_shape("tiny"), 1 / 16).kernel == "4x4"
