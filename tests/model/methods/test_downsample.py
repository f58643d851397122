"""Downsampling: the tower sees fewer pixels, the decoder fewer tokens, and all of it is billed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.methods.contract import Parts
from dpn_model.methods.downsample.resizer import Downsample
from dpn_model.methods.downsample.spec import DownsampleSettings
from dpn_model.methods.registry import find_method
from tests.model.methods.toys import Select, SelectSettings
from tests.model.test_picture_sizes import IMAGE, llava, pair

MakeBatch = Callable[..., dict[str, Tensor]]


@pytest.mark.parametrize(("keep", "grid"), [(0.25, (12, 12)), (144, (12, 12)), (192, (14, 14)), (1.0, (24, 24))])
def test_grids_of_24x24(keep: float, grid: tuple[int, int]) -> None:
    assert DownsampleSettings(keep=keep).grid(24, 24) == grid


def test_a_picture_keeps_its_shape_and_at_least_a_patch() -> None:
    assert DownsampleSettings(keep=0.25).grid(8, 4) == (4, 2)
    assert DownsampleSettings(keep=0.01).grid(3, 4) == (1, 1)
    assert DownsampleSettings(keep=9999).grid(3, 4) == (3, 4)


@torch.no_grad()
def test_it_is_what_the_base_makes_of_a_smaller_picture(
    model: DpnForConditionalGeneration, prompt_batch: MakeBatch
) -> None:
    """Placeholders and all: the dense base, shown smaller pictures with as many placeholders as these have patches."""
    batch = prompt_batch(["is it"], router=False)
    model.configure_method(Method("downsample", keep=0.25))
    out = model(**batch)
    pixels = interpolate(batch["pixel_values"], (48, 48), mode="bicubic", antialias=True)
    is_text = batch["input_ids"][0] != model.image_token_id
    start = int((~is_text).nonzero()[0])
    ids = torch.cat([batch["input_ids"][0][: start + 16], batch["input_ids"][0][start + 64 :]])[None]
    model.configure_method(Method("dense"))
    expected = model(ids, pixel_values=pixels)
    torch.testing.assert_close(out.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert out.routing.cost(0).vision == expected.routing.cost(0).vision
    assert out.routing.cost(0).projector == expected.routing.cost(0).projector
    assert (out.routing.visual_tokens, out.routing.route(0)) == ((64,), ("4x4",))
    assert out.routing.ledger(0).base_sizes == ()


@torch.no_grad()
def test_pictures_of_any_size_and_a_class_token_that_stays() -> None:
    _, ours = pair(llava("clip", "full"))
    ours.configure_method(Method("downsample", keep=0.25))
    ids = torch.tensor([[5, *[IMAGE] * (2 * 4 + 1), 6, *[IMAGE] * 17, 7]])
    routing = ours(ids, pixel_values=[torch.randn(3, 8, 16), torch.randn(3, 16, 16)]).routing
    ledger = routing.ledger(0)
    assert (routing.visual_tokens, ledger.visual_tokens, routing.route(0)) == ((24,), (6,), ("1x2+2x2",))
    assert (ledger.other_sizes, ledger.base_sizes, routing.text_tokens) == ((2, 4), (8,), (5,))


def test_a_plan_bills_the_smaller_tower_run() -> None:
    spec, shape = find_method("downsample"), base_shape("llava-1.5-7b")
    planned = spec.plan(Method("downsample", keep=0.25), shape, 40).cheapest
    vision, projector = shape.vision_and_projector(planned)
    assert planned.mean_visual_tokens() == 144
    assert shape.vision_macs is not None
    assert vision < shape.vision_macs / 4
    assert shape.projector_macs == 4 * projector
    with pytest.raises(ValueError, match="only LLaVA-1.5's tower takes pictures of other sizes"):
        spec.plan(Method("downsample"), base_shape("llava-hr-7b"), 40)


def test_other_bases_and_other_parts_are_refused(model: DpnForConditionalGeneration) -> None:
    resizer = Downsample(DownsampleSettings(), 12)
    with pytest.raises(ValueError, match="it goes with no selector"):
        Parts(resizer=resizer, selector=Select(SelectSettings()))
    assert math.prod(resizer(torch.zeros(3, 96, 96)).shape) == 3 * 48 * 48
