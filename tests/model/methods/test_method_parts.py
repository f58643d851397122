"""Every part of the contract, by a toy method: what it is given, what it leaves, what it costs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.contract import Parts
from dpn_model.methods.layer_call import LayerCall
from dpn_model.methods.registry import find_method
from dpn_model.processing import DpnProcessor
from tests.model.methods.toys import Select, SelectSettings, Shuffle

MakeBatch = Callable[..., dict[str, Tensor]]
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
METHODS = {
    "rank": Method("dense"),
    "rank, attention": {"name": "toy_rank", "sites": [2, 5], "keep": 0.4},
    "rank, next layer": {"name": "toy_rank", "sites": [2, 5], "keep": 0.4, "look": "next_layer", "positions": "keep"},
    "rank, site 0": {"name": "toy_rank", "sites": [0], "keep": 0.4, "look": "next_layer"},
    "merge": {"name": "toy_merge", "sites": [0, 4]},
    "select before": {"name": "toy_select"},
    "select after": {"name": "toy_select", "before": False},
    "skip samples": {"name": "toy_skip"},
    "skip tokens": {"name": "toy_skip", "by": "token"},
    "skip all": {"name": "toy_skip", "by": "all"},
    "experts": {"name": "toy_ffn"},
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def alone(batch: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    kept = batch["attention_mask"][sample].bool()
    return {"input_ids": batch["input_ids"][sample, kept][None], "pixel_values": batch["pixel_values"][sample][None]}


@each_method
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Any
) -> None:
    model.configure_method(method)
    batch = prompt_batch(QUESTIONS)
    together = model(**batch)
    for sample in range(3):
        single = model(**alone(batch, sample))
        torch.testing.assert_close(together.logits[sample], single.logits[0], atol=1e-5, rtol=1e-5)
        assert together.routing.ledger(sample) == single.routing.ledger(0)
        assert together.routing.route(sample) == single.routing.route(0)


@each_method
@torch.no_grad()
def test_the_cache_continues_what_a_whole_pass_would_say(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Any
) -> None:
    """A decode step against a prompt and that token prefilled together, under the decisions of the prompt."""
    model.configure_method(method)
    batch = prompt_batch(QUESTIONS)
    generated = model.generate(**batch, max_new_tokens=6, min_new_tokens=6, do_sample=False)
    for sample in range(3):
        one = model.generate(**alone(batch, sample), max_new_tokens=6, min_new_tokens=6, do_sample=False)
        assert generated[sample, -6:].tolist() == one[0, -6:].tolist()


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


@each_method
def test_the_ledger_is_what_torch_counts(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Any
) -> None:
    model.configure_method(method)
    batch = prompt_batch(QUESTIONS[:1])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        routing = model(**batch).routing
    counts = counter.get_flop_counts()
    flops = {name.removeprefix("DpnForConditionalGeneration."): sum(ops.values()) for name, ops in counts.items()}
    cost = routing.cost(0, "true")
    macs = routing.ledger(0).macs
    own = 2 * sum(macs.get(tag, 0) for tag in ("probe", "experts"))
    layers = sum(flops.get(f"model.language_model.layers.{number}", 0) for number in range(8))
    probed = sum(n for name, n in flops.items() if name == "Global") - layers - flops["lm_head"]
    probed -= flops["model.vision_tower"] + flops["model.multi_modal_projector"]
    tower = 2 * macs.get("tower", 0)
    # `look_ahead` runs a layer's attention module outside the layer: torch counts it under the layer's own name.
    assert cost.prefill + own + tower == layers + probed
    assert cost.projector == flops["model.multi_modal_projector"]
    assert cost.vision == flops["model.vision_tower"]


@each_method
@pytest.mark.parametrize("checkpointed", [False, True])
def test_training_reaches_every_weight(
    model: DpnForConditionalGeneration, training_batch: MakeBatch, method: Any, checkpointed: bool
) -> None:
    model.configure_method(method)
    model.train()
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model(**training_batch()).loss.backward()
    ungraded = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None and "vision_tower" not in name and "embed_tokens" not in name
    }
    assert ungraded == set()


def test_a_text_only_batch_runs_all_weights_of_the_parts(model: DpnForConditionalGeneration) -> None:
    for method in ({"name": "toy_ffn"}, {"name": "toy_skip", "by": "all"}, {"name": "toy_projector"}):
        fresh = DpnForConditionalGeneration(model.config).train()
        fresh.configure_method(method)
        ids = torch.tensor([[3, 9, 10, 11]])
        fresh(input_ids=ids, labels=ids).loss.backward()
        silent = [name for name, one in fresh.named_parameters() if one.grad is None and "vision_tower" not in name]
        assert silent == [], method


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


@each_method
def test_the_plan_is_what_runs(model: DpnForConditionalGeneration, prompt_batch: MakeBatch, method: Any) -> None:
    model.configure_method(method)
    routing = model(**prompt_batch(QUESTIONS[:1])).routing
    settings = model.config.method_settings
    planned = find_method(settings.name).plan(settings, model.model_shape, routing.text_tokens[0])
    ran = routing.prefill_cost(0, "swiglu").total
    low, high = (ledger.prefill(model.model_shape.decoder, "swiglu").total for ledger in planned)
    assert low <= ran <= high
