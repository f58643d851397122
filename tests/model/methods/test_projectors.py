"""Methods with a projector of their own: published sizes and costs, what fits, and that they run like any base."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.budgets import at_budget, share_of
from dpn_model.methods.contract import Host, Projector
from dpn_model.methods.projecting.layers import blocks, resized, sines_and_cosines
from dpn_model.methods.registry import find_method
from dpn_model.processing import DpnProcessor
from dpn_model.processing.images import normalise
from tests.model.conftest import picture

#: spec peer-methods 4: parameters, and 10**9 multiply-accumulates, on LLaVA-1.5-7B with 144 tokens
PUBLISHED = {
    "pixel_shuffle": (33_570_816, 4.83),
    "ldpv2": (21_020_672, 12.08),
    "tokenpacker": (36_722_688, 10.72),
    "c_abstractor": (37_398_016, 7.57),
    "resampler": (88_711_168, 29.67),
}
METHODS: dict[str, dict[str, Any]] = {
    "pixel_shuffle": {"name": "pixel_shuffle"},
    "ldpv2": {"name": "ldpv2"},
    "tokenpacker": {"name": "tokenpacker"},
    "tokenpacker, residual": {"name": "tokenpacker", "query_residual": True, "scale": 4, "levels": [1, 3]},
    "c_abstractor": {"name": "c_abstractor", "depth": 1},
    "resampler": {"name": "resampler"},
    "resampler, narrow": {"name": "resampler", "width": 64, "queries": 9},
    "resampler, honeybee": {"name": "resampler", "variant": "honeybee", "layers": 2},
    "mqt": {"name": "mqt"},
    "mqt, kept": {"name": "mqt", "keep": 7, "content_keys": True},
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
QUESTIONS = ["is there a red circle ?", "is it", "what colour is it ?"]
Batch = dict[str, Tensor]
Batches = Callable[[DpnForConditionalGeneration, list[str], int], Batch]


def built(name: str, base: str = "llava-1.5-7b", **settings: Any) -> Projector:
    shape = base_shape(base)
    host = Host(shape.decoder.num_layers, shape.decoder.hidden_size, None, shape.image_grid, shape.vision_size, shape)
    with torch.device("meta"):
        projector = find_method(name).build(Method(name, **settings), host).projector
    assert projector is not None
    return projector


@pytest.fixture
def prompts(processor: DpnProcessor) -> Batches:
    """Prompts for a model as it stands, with so many pictures each."""

    def build(model: DpnForConditionalGeneration, questions: list[str], pictures: int = 1) -> Batch:
        tokens = model.num_visual_tokens()
        ours = DpnProcessor(processor.tokenizer, image_size=96, tokens_per_image=tokens, template="short")
        samples = [
            ours.encode_prompt(
                "<image>\n" * pictures + question, [picture(seed + 7 * n) for n in range(pictures)], router=False
            )
            for seed, question in enumerate(questions)
        ]
        batch = ours.collate(samples)
        del batch["labels"]
        return batch | {"pixel_values": normalise(batch["pixel_values"])}

    return build


def alone(batch: Batch, sample: int, pictures: int = 1) -> Batch:
    kept = batch["attention_mask"][sample].bool()
    own = slice(sample * pictures, (sample + 1) * pictures)
    return {"input_ids": batch["input_ids"][sample, kept][None], "pixel_values": batch["pixel_values"][own]}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_and_costs_are_those_published(name: str) -> None:
    projector, (parameters, giga_macs) = built(name), PUBLISHED[name]
    assert sum(weight.numel() for weight in projector.parameters()) == parameters
    assert projector.grid(24, 24) == (12, 12)
    assert round(projector.macs(24, 24) / 1e9, 2) == giga_macs
    planned = find_method(name).plan(Method(name), base_shape("llava-1.5-7b"), 60).cheapest
    assert planned.macs == {"projector": projector.macs(24, 24)}
    assert round(planned.prefill(base_shape("llava-1.5-7b").decoder, "eq8").ratio, 4) == 0.2445


def test_the_resamplers_positions_are_fixed() -> None:
    assert [buffer.numel() for buffer in built("resampler").buffers()] == [589_824]
    assert sum(weight.numel() for weight in built("resampler", post_matrix=False).parameters()) == 88_711_168 - 4096**2


@pytest.mark.parametrize("base", ["llava-1.5-13b", "llava-hr-7b", "tiny"])
@pytest.mark.parametrize("name", ["pixel_shuffle", "ldpv2", "c_abstractor", "resampler", "mqt", "tokenpacker"])
def test_defaults_scale_with_the_base(name: str, base: str) -> None:
    shape = base_shape(base)
    assert shape.image_grid is not None
    if name == "tokenpacker" and base == "llava-hr-7b":
        with pytest.raises(ValueError, match="its features alone; allowed: bases with one CLIP tower"):
            built(name, base)
        return
    side = shape.image_grid[0]
    expected = int(side * 2 / 3) if name == "mqt" else side // 2
    assert built(name, base).grid(side, side) == (expected, expected)
    settings = Method(name)
    assert share_of(find_method(name), settings, shape) == (expected / side) ** 2
    found = at_budget(find_method(name), settings, shape, 0.25)
    assert share_of(find_method(name), found, shape) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("pixel_shuffle", {"factor": 5}, "factor = 5 does not divide this base's grid of 24x24 patches; allowed: div"),
        ("tokenpacker", {"scale": 7}, "scale = 7 does not divide"),
        ("tokenpacker", {"levels": (12, 25)}, r"levels = \[12, 25\]; allowed with this base's tower: 0 to 24"),
        ("tokenpacker", {"heads": 7}, "heads = 7 does not divide the width 1024"),
        ("resampler", {"queries": 145}, r"queries = 145; allowed: square numbers up to 24\*\*2 = 576"),
        ("resampler", {"width": 1026}, "width = 1026; allowed with variant = qwen: multiples of 4"),
        ("resampler", {"width": 1024, "post_matrix": False}, "post_matrix = False with width = 1024; allowed: the dec"),
        ("c_abstractor", {"queries": 625}, "queries = 625; allowed: square numbers"),
        ("ldpv2", {"side": 25}, "side = 25; allowed: 1 to 24"),
        ("mqt", {"heads": 3}, "heads = 3 does not divide the width 1024"),
        ("avgpool", {"kernel": "5x2"}, "kernel = 5x2 does not divide this base's grid of 24x24"),
    ],
)
def test_what_does_not_fit_is_told_by_plan_and_build(name: str, settings: dict[str, Any], told: str) -> None:
    shape, spec = base_shape("llava-1.5-7b"), find_method(name)
    with pytest.raises(ValueError, match=told) as planned:
        spec.plan(Method(name, **settings), shape, 60)
    with pytest.raises(ValueError, match=told) as refused:
        spec.build(Method(name, **settings), Host(32, 4096, None, shape.image_grid, shape.vision_size, shape))
    assert str(planned.value) == str(refused.value)
    assert "\n" not in str(planned.value)


@each_method
def test_bases_whose_pictures_have_any_size_are_refused(method: dict[str, Any]) -> None:
    shape = replace(base_shape("llava-1.5-7b"), image_grid=None)
    with pytest.raises(ValueError, match="projects patches of pictures of one size"):
        find_method(method["name"]).plan(Method(**method), shape, 60)


def test_blocks_of_a_grid_are_in_reading_order() -> None:
    found = blocks(torch.arange(16)[None, :, None], 4, 4, 2)[0, :, :, 0]
    assert found.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    wide = blocks(torch.arange(8)[None, :, None], 2, 4, 2)[0, :, :, 0]
    assert wide.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_a_grid_is_resized_without_aligned_corners() -> None:
    ramp = torch.arange(576.0)[None, :, None]
    for side, expected in ((12, [12.5, 14.5, 16.5]), (8, [25, 28, 31]), (6, [37.5, 41.5, 45.5])):
        assert resized(ramp, (24, 24), (side, side), "bilinear")[0, :3, 0].tolist() == pytest.approx(expected)


def test_positions_tell_the_column_first() -> None:
    found = sines_and_cosines(2, 2, 8)
    one, zero = [0.841471, 0.01, 0.540302, 0.99995], [0, 0, 1, 1]
    torch.testing.assert_close(found[1], torch.tensor([*one, *zero]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[2], torch.tensor([*zero, *one]), atol=1e-6, rtol=0)


@each_method
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(
    model: DpnForConditionalGeneration, prompts: Batches, method: dict[str, Any]
) -> None:
    model.configure_method(method)
    for pictures in (1, 2):
        batch = prompts(model, QUESTIONS, pictures)
        together = model(**batch)
        generated = model.generate(**batch, max_new_tokens=4, min_new_tokens=4, do_sample=False)
        for sample in range(3):
            single = alone(batch, sample, pictures)
            apart = model(**single)
            torch.testing.assert_close(together.logits[sample], apart.logits[0], atol=1e-5, rtol=1e-5)
            assert together.routing.ledger(sample) == apart.routing.ledger(0)
            one = model.generate(**single, max_new_tokens=4, min_new_tokens=4, do_sample=False)
            assert generated[sample, -4:].tolist() == one[0, -4:].tolist()


@each_method
@torch.no_grad()
def test_what_runs_is_what_was_planned_and_what_torch_counts(
    model: DpnForConditionalGeneration, prompts: Batches, method: dict[str, Any]
) -> None:
    model.configure_method(method)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        routing = model(**prompts(model, QUESTIONS[:1], 1)).routing
    cost, counts = routing.cost(0, "true"), counter.get_flop_counts()
    flops = {name.removeprefix("DpnForConditionalGeneration."): sum(ops.values()) for name, ops in counts.items()}
    assert cost.projector == flops["model.multi_modal_projector"]
    assert cost.vision == flops["model.vision_tower"]
    assert cost.total == flops["Global"]
    planned = find_method(method["name"]).plan(model.config.method_settings, model.model_shape, routing.text_tokens[0])
    assert planned.cheapest.stages == planned.dearest.stages == routing.ledger(0).stages
    assert planned.cheapest.macs["projector"] == routing.ledger(0).macs["projector"]


@each_method
@pytest.mark.parametrize("has_pictures", [True, False])
def test_training_reaches_every_weight(
    model: DpnForConditionalGeneration, prompts: Batches, method: dict[str, Any], has_pictures: bool
) -> None:
    model.configure_method(method)
    model.train()
    batch = prompts(model, QUESTIONS, 1) if has_pictures else {"input_ids": torch.tensor([[3, 9, 10, 11]])}
    model(**batch, labels=batch["input_ids"]).loss.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith("model.vision_tower")]
    assert silent == []
    if has_pictures:
        projector = model.model.multi_modal_projector
        assert isinstance(projector, Projector)
        assert all(weight.grad.isfinite().all() for weight in projector.parameters())


@each_method
@torch.no_grad()
def test_it_is_saved_loaded_and_copied(
    model: DpnForConditionalGeneration, prompts: Batches, method: dict[str, Any], tmp_path: Path
) -> None:
    model.configure_method(method)
    batch = prompts(model, QUESTIONS[:2], 1)
    logits = model(**batch).logits
    torch.testing.assert_close(deepcopy(model)(**batch).logits, logits)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(DpnForConditionalGeneration.from_pretrained(tmp_path)(**batch).logits, logits)
    model.configure_method(Method("dense"))
    assert model.num_visual_tokens() == 64


@torch.no_grad()
def test_a_loaded_models_projector_stays_as_it_was_learned(
    model: DpnForConditionalGeneration, prompts: Batches, tmp_path: Path
) -> None:
    """After stage 1 the exported model is a base: its recipe for stage 2 attaches the same method again."""
    model.configure_method({"name": "mqt", "elastic": False})
    learned = {name: one.clone() for name, one in model.model.multi_modal_projector.state_dict().items()}
    batch = prompts(model, QUESTIONS[:2], 1)
    logits = model(**batch).logits
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    again.configure_method({"name": "mqt", "keep": 4})
    for name, one in again.model.multi_modal_projector.state_dict().items():
        torch.testing.assert_close(one, learned[name], atol=0, rtol=0)
    assert again(**batch).routing.visual_tokens_per_stage(0) == (64, 25, 4)
    own = again.config.method_settings, again.parts
    again.configure_method({"name": "mqt"})
    torch.testing.assert_close(again(**batch).logits, logits)
    again.attach(*own)
    assert again(**batch).routing.visual_tokens_per_stage(0) == (64, 25, 4)
    for other in ({"name": "mqt", "queries": 16}, {"name": "ldpv2"}, {"name": "dense"}):
        with pytest.raises(ValueError, match="was made with a projector of its own; load its base"):
            again.configure_method(other)
    assert again(**batch).routing.visual_tokens_per_stage(0) == (64, 25, 4)
    # In one process nothing was learned yet, and a method begins afresh.
    model.configure_method({"name": "mqt"})
    assert not torch.equal(model.model.multi_modal_projector.matrix_CD, learned["matrix_CD"])


def test_tokens_are_counted_against_the_bases_patches(model: DpnForConditionalGeneration, prompts: Batches) -> None:
    model.configure_method({"name": "pixel_shuffle"})
    with torch.no_grad():
        routing = model(**prompts(model, QUESTIONS[:1], 2)).routing
    assert routing.visual_tokens_per_stage(0) == (128, 32)
    assert math.isclose(routing.ledger(0).mean_visual_tokens() / routing.visual_tokens[0], 0.25)
    assert routing.cost(0).projector == 2 * 2 * model.model.multi_modal_projector.macs(8, 8)
