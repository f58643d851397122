"""Every part of the contract, by a toy method: what it is given, what it leaves, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.contract import Parts
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.registry import find_method
from dpn_model.processing import DpnProcessor
from tests.model.methods.toys import Select, SelectSettings, Shuffle

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]


@torch.no_grad()
@pytest.mark.parametrize("by", ["sample", "token", "all"])
def test_a_skipped_layer_behind_the_cache_is_the_skipped_layer_of_a_whole_pass(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, by: str
) -> None:
    """Text behind the prompt runs or skips the layer as its sample does: one prefill of all gives the same logits."""
    from dpn_model.cache import CACHE_NAME, PackedCache

    model.configure_method({"name": "toy_skip", "by": by})
    batch = prompt_batch(QUESTIONS[:1], router=False)
    cache = PackedCache()
    model(**batch, **{CACHE_NAME: cache})
    more = torch.tensor([[9, 10, 11]])
    step = model(input_ids=more, **{CACHE_NAME: cache}, logits_to_keep=3).logits
    whole = model(
        input_ids=torch.cat([batch["input_ids"], more], dim=1), pixel_values=batch["pixel_values"], logits_to_keep=3
    ).logits
    torch.testing.assert_close(step, whole, atol=1e-5, rtol=1e-5)
    owned = sum(cache.stage(2).lengths)
    text = batch["input_ids"].shape[1] - 64
    assert owned == {"sample": 0, "all": 0, "token": text + 32 + 3}[by]


@torch.no_grad()
def test_masses_add_up_and_merging_is_the_mean(model: DpnForConditionalGeneration, prompt_batch: MakeBatch) -> None:
    model.configure_method({"name": "toy_merge", "sites": [0, 2, 4]})
    seen = []
    for reducer in model.parts.reducers.values():
        reducer.register_forward_hook(lambda module, given, out: seen.append((given[0], out[0])))
    model(**prompt_batch(QUESTIONS[:2]))
    for number, (before, after) in enumerate(seen):
        for old, new in zip(before.images, after.images, strict=True):
            assert (
                after.weight_T[new.start : new.start + new.num_tokens].tolist() == [2 ** (number + 1)] * new.num_tokens
            )
            rows = before.hidden_TD[old.start : old.start + old.num_tokens].unflatten(0, (-1, 2))
            torch.testing.assert_close(after.hidden_TD[new.start : new.start + new.num_tokens], rows.mean(dim=1))
        is_text = after.kind_T != 1
        assert after.weight_T[is_text].eq(1).all()


def test_a_term_of_the_loss_is_weighed_and_told(model: DpnForConditionalGeneration, training_batch: MakeBatch) -> None:
    model.configure_method({"name": "toy_merge"})
    out = model(**training_batch())
    assert set(out.loss_terms) == {"magnitude"}
    torch.testing.assert_close(out.loss, out.loss_lm + 0.5 * out.loss_terms["magnitude"])
    assert out.loss_routing is None


@torch.no_grad()
def test_a_projector_with_its_own_grid_trains_saves_and_loads(
    model: DpnForConditionalGeneration, processor: DpnProcessor, tmp_path: Any
) -> None:
    from tests.model.conftest import picture

    model.configure_method({"name": "toy_projector"})
    assert (model.image_grid, model.num_visual_tokens()) == ((4, 4), 16)
    ours = DpnProcessor(processor.tokenizer, image_size=96, tokens_per_image=16, template="short")
    from dpn_model.processing.images import normalise

    batch = ours.collate([ours.encode_prompt("<image>\nis it", [picture(0)], router=False)])
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = normalise(batch["pixel_values"])
    logits = model(**inputs).logits
    report = model.last_routing
    assert report.cost(0).projector == 2 * 16 * (4 * 2 * 64) * 96
    assert (report.visual_tokens, report.visual_tokens_per_stage(0), report.route(0)) == ((64,), (64, 16), ("4x4",))
    planned = find_method("toy_projector").plan(model.config.method_settings, base_shape("tiny"), report.text_tokens[0])
    decoder = model.model_shape.decoder
    assert planned.cheapest.prefill(decoder, "swiglu") == report.prefill_cost(0, "swiglu")
    assert report.prefill_cost(0, "eq8").ratio < 0.3
    torch.testing.assert_close(deepcopy(model)(**inputs).logits, logits)
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert again.image_grid == (4, 4)
    torch.testing.assert_close(again(**inputs).logits, logits)
    model.configure_method(Method("dense"))
    assert model.image_grid == (8, 8)
    with pytest.raises(ValueError, match="was made with a projector of its own; load its base"):
        again.configure_method(Method("dense"))


def test_a_grid_of_its_own_wants_whole_pictures() -> None:
    selector = Select(SelectSettings(before=True))
    with pytest.raises(ValueError, match="the selector must work behind it"):
        Parts(projector=Shuffle(64, 96), selector=selector)
    selector.before_projector = False
    Parts(projector=Shuffle(64, 96), selector=selector)


def test_a_patch_that_never_runs_its_layer_is_told() -> None:
    call = LayerCall(3, torch.zeros(2, 4), (2,), lambda rows: torch.zeros(0, 4))
    with pytest.raises(RuntimeError, match="the patch of layer 3 must call `run` once"):
        call.record()


@torch.no_grad()
def test_a_selector_in_front_of_the_projector_saves_it_work(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    batch = prompt_batch(QUESTIONS[:1])
    found = {}
    for before in (True, False):
        model.configure_method({"name": "toy_select", "before": before})
        routing = model(**batch).routing
        found[before] = routing.cost(0, "swiglu").projector
        assert (routing.visual_tokens, routing.records[0].tokens_out, routing.route(0)) == ((64,), (17,), ("17",))
        assert routing.ledger(0).macs["selector"] == 7
    assert found[True] * 64 == found[False] * 17
