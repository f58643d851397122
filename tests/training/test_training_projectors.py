"""A method's projector through both stages: stage 1 trains it alone, stage 2 goes on with what it has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dpn_model import DpnForConditionalGeneration
from dpn_model.objects.record import Objects
from dpn_model.processing import Processor
from dpn_model.processing.images import normalise
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.demo.detection.base import build_tiny_chatrex
from dpn_platform.training.base import build_model
from dpn_platform.training.optimizer import build_optimizer

STAGE_1 = {"lr": 0, "projector_lr": 1e-3}
PROJECTOR = "model.multi_modal_projector."


def config(base: str, train: dict[str, Any], **method: Any) -> ExperimentConfig:
    return parse_config({"name": "test", "model": {"base": base}, "method": method, "train": train}, "test")


def changed_by_a_step(model: DpnForConditionalGeneration, processor: Processor, settings: ExperimentConfig) -> set[str]:
    """Names of the weights that a step moved."""
    optimizer = build_optimizer(model.train(), settings.train)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    sample = processor.encode_training(
        [("<image>\nwhat is it ?", "red circle")], [Image.fromarray(pixels)], router=False
    )
    batch = processor.collate([sample])
    model(**batch | {"pixel_values": normalise(batch["pixel_values"])}).loss.backward()
    optimizer.step()
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


@pytest.mark.parametrize("name", ["pixel_shuffle", "tokenpacker", "mqt"])
def test_stage_2_goes_on_with_what_stage_1_taught_the_projector(tmp_path: Path, name: str) -> None:
    first = config("tiny", STAGE_1, name=name)
    model, processor = build_model(first)
    moved = changed_by_a_step(model, processor, first)
    assert moved == {each for each, _ in model.named_parameters() if each.startswith(PROJECTOR)}
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    second = config(str(tmp_path), {"lr": 1e-3, "seed": 7}, name=name)
    again, reading = build_model(second)
    learned = model.state_dict()
    assert all(torch.equal(weight, learned[each]) for each, weight in again.state_dict().items())
    assert reading.tokens_per_image == processor.tokens_per_image == again.num_visual_tokens() < 64
    moved = changed_by_a_step(again, reading, second)
    assert {each.startswith(PROJECTOR) for each in moved} == {True, False}


def test_another_projector_than_the_learned_one_is_refused(tmp_path: Path) -> None:
    model, processor = build_model(config("tiny", STAGE_1, name="pixel_shuffle"))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    for method in ({"name": "pixel_shuffle", "factor": 4}, {"name": "ldpv2"}, {"name": "dense"}):
        with pytest.raises(DpnError, match="was made with a projector of its own; load its base to change the method"):
            build_model(config(str(tmp_path), {}, **method))


def test_pooling_around_the_bases_projector_needs_no_stage_1(tmp_path: Path) -> None:
    model, processor = build_model(config("tiny", {}, name="dense"))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    settings = config(str(tmp_path), {"lr": 1e-3}, name="avgpool")
    pooled, reading = build_model(settings)
    assert all(torch.equal(weight, model.state_dict()[each]) for each, weight in pooled.state_dict().items())
    assert reading.tokens_per_image == 64
    assert any(each.startswith(PROJECTOR) for each in changed_by_a_step(pooled, reading, settings))


def test_a_base_with_boxes_takes_a_methods_projector_too(tmp_path: Path) -> None:
    base, reading = build_tiny_chatrex()
    base.save_pretrained(tmp_path)
    reading.save_pretrained(tmp_path)
    model, processor = build_model(config(str(tmp_path), STAGE_1, name="pixel_shuffle"))
    assert processor.tokens_per_image == model.num_visual_tokens() < 64
    shown = Objects(np.array([[0.0, 0, 50, 50], [10, 20, 90, 90]]), (96, 96))
    sample = processor.encode_prompt("<image>\nwhat is", [Image.new("RGB", (96, 96))], router=False, objects=shown)
    batch = {name: one for name, one in processor.collate([sample]).items() if name != "labels"}
    with torch.no_grad():
        out = model.eval()(**batch | {"pixel_values": normalise(batch["pixel_values"])})
    assert out.routing.num_objects == (2,)
