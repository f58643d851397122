"""LLaVA-HR: adapters that start as the identity, shapes at every stage, published sizes, and DPN on top."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.bases.llava_hr.model import (
    FinalMerge,
    LlavaHrConfig,
    LlavaHrModel,
    MixtureOfResolutionAdapter,
    align_grid,
)
from dpn_model.bases.llava_hr.shape import image_grid
from dpn_model.configuration import base_config

IMAGE_ID, ROUTER_ID, VOCAB = 4, 5, 40


def toy_config(**changes) -> LlavaHrConfig:
    """Stride 32 and patch 8: 128 pixels give 4x4 tokens."""
    values = {
        "vision_config": CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=24,
            patch_size=8,
        ),
        "slow_vision_config": ConvNextConfig(hidden_sizes=[8, 8, 16, 24], depths=[1, 1, 2, 1], layer_norm_eps=1e-5),
        "text_config": LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
        ),
        "image_size": 128,
        "adapter_layers": (1, 2, 3),
        "image_token_index": IMAGE_ID,
    }
    return LlavaHrConfig(**(values | changes))


@pytest.fixture
def model() -> DpnForConditionalGeneration:
    torch.manual_seed(0)
    return DpnForConditionalGeneration(DpnConfig(base_config=toy_config(), router_token_id=ROUTER_ID)).eval()


def prompt(num_tokens: int) -> torch.Tensor:
    return torch.tensor([[1, 10, *[IMAGE_ID] * num_tokens, 11, ROUTER_ID, 12]])


@pytest.mark.parametrize(("slow", "parameters"), [(1536, 6_085_121), (3072, 14_737_409)])
def test_adapter_has_the_published_size(slow: int, parameters: int) -> None:
    with torch.device("meta"):
        adapter = MixtureOfResolutionAdapter(1024, slow)
    assert sum(p.numel() for p in adapter.parameters()) == parameters


def test_adapters_change_nothing_until_they_are_trained(model: DpnForConditionalGeneration) -> None:
    pixels = torch.randn(2, 3, 128, 128)
    plain = LlavaHrModel(toy_config(adapter_layers=())).eval()
    state = {name: t for name, t in model.model.state_dict().items() if ".adapters." not in name}
    plain.load_state_dict(state)
    assert torch.equal(model.model.vision_tower(pixels), plain.vision_tower(pixels))
    adapter = model.model.vision_tower.adapters[0]
    assert adapter.slow_conv.weight.abs().max() > 0.1  # xavier, not transformers' 0.02
    torch.nn.init.normal_(adapter.slow_proj.weight)
    assert not torch.allclose(model.model.vision_tower(pixels), plain.vision_tower(pixels))


def test_adapter_is_the_formula() -> None:
    """Written out: y' = y + P_f(GELU(DW(y))), one gate per image from the means of y' and s, y' + g * s."""
    torch.manual_seed(0)
    adapter = MixtureOfResolutionAdapter(6, 5)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    fast, slow = torch.randn(2, 6, 4, 4), torch.randn(2, 5, 4, 4)
    gelu = torch.nn.functional.gelu
    for number in range(2):
        y = fast[number]
        pixels = slow[number].flatten(1)
        hidden = gelu(adapter.slow_conv.weight[:, :, 0, 0] @ pixels + adapter.slow_conv.bias[:, None])
        s = (adapter.slow_proj.weight[:, :, 0, 0] @ hidden + adapter.slow_proj.bias[:, None]).view(6, 4, 4)
        depthwise = torch.nn.functional.conv2d(y[None], adapter.fast_conv.weight, adapter.fast_conv.bias, 1, 3, 1, 6)[0]
        mixed = adapter.fast_proj.weight[:, :, 0, 0] @ gelu(depthwise).flatten(1) + adapter.fast_proj.bias[:, None]
        y = y + mixed.view(6, 4, 4)
        means = torch.cat([y.mean((1, 2)), s.mean((1, 2))])
        w1, w2 = adapter.gate[0], adapter.gate[2]
        gate = torch.tanh(w2.weight @ gelu(w1.weight @ means + w1.bias) + w2.bias)
        torch.testing.assert_close(adapter(fast, slow)[number], y + gate * s, atol=1e-6, rtol=1e-5)  # measured 6e-8


def test_grids_are_averaged_or_interpolated() -> None:
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    assert align_grid(ramp, (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    wide = align_grid(ramp, (8, 8))
    assert wide[0, 0, 0, -1] == 3.0  # corners are aligned
    assert wide[0, 0, -1, -1] == 15.0
    with pytest.raises(ValueError, match="4x4 grid does not fit the fast tower's 6x6"):
        align_grid(ramp, (6, 6))


def test_shapes_at_every_stage(model: DpnForConditionalGeneration) -> None:
    tower, pixels = model.model.vision_tower, torch.randn(2, 3, 128, 128)
    slow = tower.slow_features(pixels)
    assert slow.shape == (2, 24, 4, 4)
    assert tower.fast_size == 32
    assert tower.fast_features(pixels, slow).shape == (2, 32, 4, 4)
    assert tower(pixels).shape == (2, 16, 32)
    assert [tokens.shape for tokens in model.model.get_image_features(pixels).pooler_output] == [(16, 32)] * 2
    # Stage 1: the small picture stays at the size CLIP knows, and the slow map is spread over its finer grid.
    stage_1 = toy_config(image_size=64, vision_config=toy_config().vision_config.to_dict() | {"image_size": 32})
    assert image_grid(stage_1) == (4, 4)
    assert LlavaHrModel(stage_1).vision_tower(torch.randn(1, 3, 64, 64)).shape == (1, 16, 32)


def test_fast_tower_at_its_own_size_is_transformers_clip(model: DpnForConditionalGeneration) -> None:
    """At the trained size, patches attend to each other as in CLIP, but without a class token."""
    config = toy_config(image_size=96)  # 96 / 32 * 8 = 24, CLIP's own size
    tower = LlavaHrModel(config).eval().vision_tower
    pixels = torch.randn(1, 3, 96, 96)
    small = torch.nn.functional.interpolate(pixels, size=(24, 24), mode="bilinear", align_corners=True)
    clip = tower.fast
    with torch.no_grad():
        hidden = clip.pre_layrnorm(clip.embeddings(small))[:, 1:]
        expected = clip.encoder(inputs_embeds=hidden).last_hidden_state
        ours = tower.fast_features(pixels, tower.slow_features(pixels)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)  # measured 0.0


def convnext_parameters(widths: list[int], depths: list[int]) -> int:
    """Stem, stages of depthwise 7x7, norm, two linear layers and layer scale; norm and 2x2 convolution between."""
    total = 3 * 16 * widths[0] + 3 * widths[0]
    for c, depth in zip(widths, depths, strict=True):
        total += depth * (49 * c + c + 2 * c + 8 * c * c + 4 * c + c + c)
    return total + sum(2 * a + 4 * a * b + b for a, b in zip(widths, widths[1:], strict=False))


@pytest.mark.parametrize(
    ("name", "llm", "projector", "adapters", "merge", "width"),
    [
        ("llava-hr-7b", 6_738_415_616, 20_979_712, 3 * 6_085_121, 2_623_488, 4096),
        ("llava-hr-x-13b", 13_015_864_320, 31_467_520, 3 * 14_737_409, 4_196_352, 5120),
    ],
)
def test_published_sizes_on_the_meta_device(name, llm, projector, adapters, merge, width) -> None:
    with torch.device("meta"):
        model = DpnForConditionalGeneration(base_config(name))

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    tower = model.model.vision_tower
    # One row more than LLaMA's vocabulary in the embedding and in the head: <ROUTER>.
    assert count(model.model.language_model) + count(model.lm_head) == llm + 2 * width
    assert count(model.model.multi_modal_projector) == projector
    assert count(tower.adapters) == adapters
    assert count(tower.merge) == merge
    assert round(count(tower.fast) / 1e6, 1) == 303.5
    slow = model.config.base.slow_vision_config
    assert count(tower.slow) == convnext_parameters(slow.hidden_sizes, slow.depths)
    assert model.image_grid == (32, 32)
    assert tower.fast_size == 448
    model.configure_method(Method(name="dpn"))
    assert model.config.method_settings.resolve_sites(model.config.get_text_config().num_hidden_layers) == tuple(
        int(layer) for layer in model.reducers
    )


def test_dpn_runs_and_learns_on_it(model: DpnForConditionalGeneration) -> None:
    model.configure_method(Method(name="dpn", selection="top1"))
    model.train()
    ids = prompt(math.prod(model.image_grid))
    out = model(input_ids=ids, pixel_values=torch.randn(1, 3, 128, 128), labels=ids.masked_fill(ids < 10, -100))
    out.loss.backward()
    assert out.routing.visual_tokens == (16,)
    assert model.model.vision_tower.adapters[0].slow_proj.weight.grad.abs().sum() > 0
    assert model.reducers["1"].router.predictor.weight.grad.abs().sum() > 0


def test_saved_folder_loads(model: DpnForConditionalGeneration, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    batch = {"input_ids": prompt(16), "pixel_values": torch.randn(1, 3, 128, 128)}
    assert torch.equal(again(**batch).logits, model(**batch).logits)


def test_bad_adapter_layers_are_named() -> None:
    with pytest.raises(ValueError, match=r"adapter_layers = \[2, 9\]; allowed: different CLIP blocks from 1 to 4"):
        LlavaHrModel(toy_config(adapter_layers=(2, 9)))


def test_pictures_of_another_size_are_refused(model: DpnForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match=r"pixel_values\[0\] has shape \(3, 160, 160\); allowed: .*128, 128"):
        model(prompt(16), pixel_values=torch.randn(1, 3, 160, 160))


def test_merge_aligns_before_it_adds() -> None:
    merge = FinalMerge(4, 3)
    assert merge(torch.randn(2, 4, 6, 6), torch.randn(2, 3, 3, 3)).shape == (2, 36, 4)
