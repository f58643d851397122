"""LLaVA's pictures of other sizes, towers and choices of features: right, billed as they run, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PixtralVisionConfig,
    SiglipVisionConfig,
)

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method

IMAGE = 90
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 16, "patch_size": 4}  # fmt: skip
TEXT = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
CHOICES = [("clip", "default", 0), ("clip", "full", 1), ("siglip", "full", 0)]


def llava(tower: str, strategy: str, layer: int | list[int] = -1) -> LlavaConfig:
    vision = CLIPVisionConfig(**SIZES, projection_dim=16) if tower == "clip" else SiglipVisionConfig(**SIZES)
    return LlavaConfig(
        vision_config=vision, text_config=TEXT, image_token_index=IMAGE, vision_feature_layer=layer,
        vision_feature_select_strategy=strategy, image_seq_length=16,
    )  # fmt: skip


def pair(config: LlavaConfig) -> tuple[LlavaForConditionalGeneration, DpnForConditionalGeneration]:
    torch.manual_seed(0)
    theirs = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = DpnForConditionalGeneration(DpnConfig(base_config=config)).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(("tower", "strategy", "extra"), CHOICES)
@pytest.mark.parametrize("layer", [-1, [-2, -1]], ids=["one layer", "two layers"])
def test_features_equal_transformers(tower, strategy, extra, layer) -> None:
    """A class token is kept by every method, as text is."""
    theirs, ours = pair(llava(tower, strategy, layer))
    ids = torch.tensor([[5, *[IMAGE] * (16 + extra), 6, 7]])
    pixels = torch.randn(1, 3, 16, 16)
    expected = theirs(input_ids=ids, pixel_values=pixels).logits[:, -1]
    out = ours(ids, pixel_values=pixels)
    torch.testing.assert_close(out.logits, expected, atol=1e-5, rtol=1e-5)  # measured 7e-7
    assert out.routing.visual_tokens == (16,)
    assert out.routing.text_tokens == (3 + extra,)
    ours.configure_method(Method(name="static", kernel="2x2", sites=(1,)))
    assert ours.eval()(ids, pixel_values=pixels).routing.visual_tokens_per_stage(0) == (16, 4)


@pytest.mark.parametrize(("tower", "strategy", "extra"), CHOICES)
def test_pictures_are_billed_at_their_own_size(tower, strategy, extra) -> None:
    """8x16, 24x20 and 16x16 pixels in one sample, against torch's counter."""
    _, ours = pair(llava(tower, strategy))
    pictures = [torch.randn(3, 8, 16), torch.randn(3, 24, 20), torch.randn(3, 16, 16)]
    tokens = [2 * 4 + extra, 6 * 5 + extra, 16 + extra]
    ids = torch.tensor([[5, *(token for number in tokens for token in [*[IMAGE] * number, 6])]])
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        routing = ours(ids, pixel_values=pictures).routing
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    cost = routing.cost(0, "true")
    assert cost.vision == flops["DpnForConditionalGeneration.model.vision_tower"]
    assert cost.projector == flops["DpnForConditionalGeneration.model.multi_modal_projector"]
    native = ours(torch.tensor([[5, *[IMAGE] * tokens[2], 6]]), pixel_values=pictures[2:]).routing.cost(0)
    assert cost.vision < 3 * native.vision + 2 * native.vision


@pytest.mark.parametrize(
    ("vision", "told"),
    [
        (
            SiglipVisionConfig(**SIZES),
            "vision_feature_select_strategy = 'default'; allowed with siglip_vision_model: full",
        ),
        (
            PixtralVisionConfig(),
            "vision_config.model_type = 'pixtral'; allowed in llava: clip_vision_model, siglip_vision",
        ),
    ],
    ids=["siglip", "pixtral"],
)
def test_features_that_are_no_grid_are_refused_before_anything_is_built(vision, told) -> None:
    with pytest.raises(ValueError, match=told):
        DpnForConditionalGeneration(DpnConfig(base_config=LlavaConfig(vision_config=vision, text_config=TEXT)))
