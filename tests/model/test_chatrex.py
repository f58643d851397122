"""ChatRex's pictures: two towers side by side, published sizes and costs, and DPN on top (spec chatrex 1.1, 8)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import interpolate

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.catalogue import base_shape
from dpn_model.bases.chatrex.model import ChatRexModel
from dpn_model.configuration import base_config
from dpn_model.cost.flops import DecoderShape, layer_macs
from dpn_model.cost.ledger import Ledger
from tests.model.toy_chatrex import IMAGE_ID, LLAMA, QWEN, ROUTER_ID, VOCAB, built, toy_config


@pytest.fixture(params=[LLAMA, QWEN], ids=["llama", "qwen2"])
def model(request: Any) -> DpnForConditionalGeneration:
    return built(toy_config(text_config=request.param))


def prompt(num_tokens: int = 16) -> torch.Tensor:
    return torch.tensor([[1, 10, *[IMAGE_ID] * num_tokens, 11, ROUTER_ID, 12]])


def test_tokens_are_both_towers_channels_cell_by_cell(model: DpnForConditionalGeneration) -> None:
    tower, pixels = model.model.vision_tower, torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        tokens = tower(pixels)
        small = interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False, antialias=False)
        clip = tower.fast(small, output_hidden_states=True).hidden_states
        slow = tower.slow(pixels).last_hidden_state
    assert tokens.shape == (2, 16, 56)
    torch.testing.assert_close(tokens[..., :32], clip[2][:, 1:])  # the last layer but one, without the class token
    assert len(clip) == 4
    for cell in (0, 5, 15):
        torch.testing.assert_close(tokens[:, cell, 32:], slow[:, :, cell // 4, cell % 4])
    projected = model.model.get_image_features(pixels).pooler_output
    assert [tuple(one.shape) for one in projected] == [(16, 32)] * 2


def test_identity_routes_are_a_loop_over_transformers_modules(model: DpnForConditionalGeneration) -> None:
    ids, pixels = prompt(), torch.randn(1, 3, 128, 128)
    base = model.model
    with torch.no_grad():
        embedded = base.language_model.embed_tokens(ids.clamp(max=VOCAB - 1))
        embedded[0, 2:18] = base.get_image_features(pixels).pooler_output[0]
        plain = type(base.language_model)(model.config.base.text_config).eval()
        plain.load_state_dict(base.language_model.state_dict())
        expected = model.lm_head(plain(inputs_embeds=embedded).last_hidden_state[0, -1])
        model.configure_method(Method(scaling="off"))
        model.set_route(["1x1"] * 3)
        found = model(input_ids=ids, pixel_values=pixels).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_dpn_runs_and_learns_on_it(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn", selection="top1"))
    model.train()
    ids = prompt()
    labels = ids.masked_fill((ids < 10) | (ids >= ROUTER_ID), -100)
    out = model(input_ids=ids, pixel_values=torch.randn(1, 3, 128, 128), labels=labels)
    out.loss.backward()
    assert out.routing.visual_tokens == (16,)
    tower = model.model.vision_tower
    assert next(tower.slow.parameters()).grad.abs().sum() > 0
    assert tower.fast.embeddings.patch_embedding.weight.grad.abs().sum() > 0
    assert model.reducers["1"].router.predictor.weight.grad.abs().sum() > 0


def test_saved_folder_loads(model: DpnForConditionalGeneration, tmp_path: Any) -> None:
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    batch = {"input_ids": prompt(), "pixel_values": torch.randn(1, 3, 128, 128)}
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_towers_of_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size = 96: ConvNeXt's grid is 3x3, CLIP's 4x4; allowed: 128"):
        ChatRexModel(toy_config(image_size=96))


@pytest.mark.parametrize(
    ("name", "llm", "projectors", "width", "rows"),
    [
        ("chatrex-7b", 7_613_501_952, (22_027_264, 23_174_144), 3584, 2),
        ("chatrex-7b-vicuna", 6_739_267_584, (27_271_168, 28_581_888), 4096, 2),
        ("rexseek-3b", None, (9_441_280, 10_096_640), 2048, 1),
    ],
)
def test_published_sizes_on_the_meta_device(
    name: str, llm: int | None, projectors: tuple[int, int], width: int, rows: int
) -> None:
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))

    def count(*modules: torch.nn.Module) -> int:
        return sum({parameter: parameter.numel() for one in modules for parameter in one.parameters()}.values())

    tower = model.model.vision_tower
    assert count(tower.fast) == 303_507_456
    assert count(tower.slow) == 196_227_264
    assert count(model.model.multi_modal_projector) == projectors[0]
    assert count(model.model.object_projector) == projectors[1]
    if llm is not None:
        # One row more than the authors' vocabulary, in the embedding and in the head: <ROUTER>.
        assert count(model.model.language_model, model.lm_head) == llm + rows * width
    assert model.image_grid == (24, 24)


ROUTES = ((576, 288, 144, 72), (576, 144, 36, 9), (576, 144, 144, 144))


def prefill(decoder: DecoderShape, stages: tuple[int, ...], text: int, convention: Any) -> int:
    """Sites 7, 14, 21."""
    return sum(7 * layer_macs(visual + text, decoder, convention) for visual in stages)


@pytest.mark.parametrize(
    ("boxes", "convention", "dense", "ratios"),
    [
        (0, "eq8", 3414.3, (0.5151, 0.3924, 0.4867)),
        (0, "swiglu", 4231.3, (0.5158, 0.3929)),
        (20, "eq8", 3634.5, (0.5431, 0.4275, 0.5163)),
        (20, "swiglu", 4502.8, (0.5440, 0.4282)),
        (50, "eq8", 3965.9, (0.5795, 0.4730, 0.5548)),
        (50, "swiglu", 4911.3, (0.5804, 0.4738)),
        (100, "eq8", 4521.6, (0.6284, 0.5344, 0.6066)),
        (100, "swiglu", 5595.4, (0.6295, 0.5354)),
    ],
)
def test_costs_are_the_specs(boxes: int, convention: Any, dense: float, ratios: tuple[float, ...]) -> None:
    """60 rows of text and router, two for each box, all counted; pooled thrice by 1x2, thrice by 2x2, once by 2x2."""
    decoder, text = base_shape("chatrex-7b").decoder, 60 + 2 * boxes
    whole = prefill(decoder, (576,) * 4, text, convention)
    assert whole / 1e9 == pytest.approx(dense, abs=0.05)
    for stages, ratio in zip(ROUTES, ratios, strict=False):
        assert prefill(decoder, stages, text, convention) / whole == pytest.approx(ratio, abs=6e-5)
        if convention == "swiglu":
            cost = Ledger.of_stages(28, (7, 14, 21), stages, text, num_images=1).prefill(decoder, convention)
            assert (cost.dense, cost.total) == (whole, prefill(decoder, stages, text, convention))


def test_towers_and_projector_are_in_the_bill() -> None:
    shape = base_shape("chatrex-7b-vicuna")
    assert shape.vision_macs is not None
    assert shape.projector_macs is not None
    assert shape.vision_macs / 1e9 == pytest.approx(191.0 + 403.9, abs=0.1)
    assert shape.projector_macs / 1e9 == pytest.approx(15.7, abs=0.05)
    assert shape.object_macs * 100 / 1e9 == pytest.approx(1.34 + 2.86, abs=0.01)
