"""More families of transformers' VLMs: dense and 1x1 routes equal theirs, generation too; pooling on their grids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.cache import PackedCache
from dpn_model.flops import layer_macs
from dpn_model.packing import ImageSpan
from dpn_model.pyramid.experts import DepthwiseConv, pool_image, tokens_after
from dpn_model.reduction import replace_image_rows

VISION_START, IMAGE, ROUTER, VISION_END = 90, 91, 92, 94
TEXT = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SQUARE = {"image_size": 16, "patch_size": 4}  # 4x4 patches
PINPOINTS = [[16, 32], [32, 16], [32, 32]]


@dataclass(frozen=True)
class Picture:
    """What a family's processor makes of one picture.

    Attributes:
        ids: its tokens in the text.
        pixels, inputs: joined over pictures along the family's axis.
        grids: of its visual tokens; a third number is 1 where rows end with a newline.
    """

    ids: list[int]
    pixels: Tensor
    inputs: dict[str, Tensor]
    grids: list[tuple[int, ...]]

    def tokens(self, kernel: tuple[int, int] = (1, 1)) -> int:
        """Visual tokens of its grids after one pooling."""
        return sum((h // kernel[0]) * (w // kernel[1] + sum(end)) for h, w, *end in self.grids)


@dataclass(frozen=True)
class Family:
    """A tiny configuration of `kind`, two pictures, and the axis along which pixels are joined."""

    kind: str
    config: dict[str, Any]
    pictures: tuple[Picture, Picture]
    axis: int = 0


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def gridded(height: int, width: int) -> Picture:
    grid = (height // 2, width // 2)
    ids = [VISION_START, *[IMAGE] * (grid[0] * grid[1]), VISION_END]
    thw = torch.tensor([[1, height, width]])
    return Picture(ids, noise(height * width, 3 * 2 * 4 * 4), {"image_grid_thw": thw}, [grid])


def qwen3(kind: str, **text: Any) -> Family:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {
        "depth": 4, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "patch_size": 4, "out_hidden_size": 32,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1, 2],
    }  # fmt: skip
    config = {
        "text_config": TEXT | {"rope_parameters": rope} | text, "vision_config": vision, "image_token_id": IMAGE,
        "vision_start_token_id": VISION_START, "video_token_id": 93, "vision_end_token_id": VISION_END,
    }  # fmt: skip
    return Family(kind, config, (gridded(4, 12), gridded(8, 8)))


def anyres(size: tuple[int, int], view: tuple[int, int], tiles: int) -> Picture:
    """A picture of `size` pixels whose larger view is `view` tokens; filled up to five tiles."""
    ids = [IMAGE] * (16 + view[0] * (view[1] + 1))
    return Picture(ids, noise(1, 5, 3, 16, 16), {"image_sizes": torch.tensor([size])}, [(4, 4), (*view, 1)])


def llava_next() -> Family:
    config = {
        "text_config": TEXT | {"model_type": "llama"}, "image_token_index": IMAGE, "image_grid_pinpoints": PINPOINTS,
        "vision_config": TOWER | SQUARE | {"model_type": "clip_vision_model", "projection_dim": 16},
        "vision_feature_select_strategy": "default", "vision_feature_layer": -2,
    }  # fmt: skip
    return Family("llava_next", config, (anyres((30, 14), (8, 4), 3), anyres((10, 32), (2, 8), 3)))


def llava_onevision() -> Family:
    """Views of more than two tiles are made smaller."""
    config = {
        "text_config": TEXT | {"model_type": "qwen2"}, "image_token_index": IMAGE, "image_grid_pinpoints": PINPOINTS,
        "vision_config": TOWER | SQUARE | {"model_type": "siglip_vision_model", "vision_use_head": False},
        "vision_aspect_ratio": "anyres_max_2", "video_token_index": 93,
    }  # fmt: skip
    return Family("llava_onevision", config, (anyres((30, 14), (8, 4), 3), anyres((31, 32), (5, 5), 5)))


def internvl() -> Family:
    """Two tiles beside each other without anything between, and one."""
    config = {
        "text_config": TEXT | {"model_type": "qwen2"}, "image_token_id": IMAGE, "tie_word_embeddings": False,
        "vision_config": TOWER | {"image_size": [16, 16], "patch_size": [2, 2]},
    }  # fmt: skip
    two = Picture([VISION_START, *[IMAGE] * 32, VISION_END], noise(2, 3, 16, 16), {}, [(4, 4)] * 2)
    one = Picture([VISION_START, *[IMAGE] * 16, VISION_END], noise(1, 3, 16, 16), {}, [(4, 4)])
    return Family("internvl", config, (two, one))


def idefics(kind: str) -> Family:
    """Two tiles with words between, and one whose lower half is masked."""
    config = {
        "text_config": TEXT | {"model_type": "llama"}, "image_token_id": IMAGE, "scale_factor": 2,
        "vision_config": TOWER | {"image_size": 16, "patch_size": 2},
    }  # fmt: skip
    tile = [VISION_START, *[IMAGE] * 16]
    mask = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    whole = {"pixel_attention_mask": mask.expand(1, 2, 16, 16)}
    half = {"pixel_attention_mask": mask.clone()}
    half["pixel_attention_mask"][:, :, 8:] = False
    two = Picture([*tile, 30, *tile, VISION_END], noise(1, 2, 3, 16, 16), whole, [(4, 4)] * 2)
    one = Picture([*tile, VISION_END], noise(1, 1, 3, 16, 16), half, [(4, 4)])
    return Family(kind, config, (two, one), axis=1)


MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
FAMILIES = [
    qwen3("qwen3_vl"), qwen3("qwen3_vl_moe", **MOE), llava_next(), llava_onevision(), internvl(), idefics("idefics3"),
    idefics("smolvlm"),
]  # fmt: skip
by_kind = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)


def inputs_of(family: Family, ids: list[int], pictures: list[Picture]) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {"input_ids": torch.tensor([ids])}
    if pictures:
        inputs["pixel_values"] = torch.cat([picture.pixels for picture in pictures], dim=family.axis)
        for name in pictures[0].inputs:
            inputs[name] = torch.cat([picture.inputs[name] for picture in pictures], dim=family.axis)
    return inputs


def samples_of(family: Family) -> list[dict[str, Tensor]]:
    """One picture; none; two in the other order."""
    first, second = family.pictures
    return [
        inputs_of(family, [5, 6, *first.ids, 7, ROUTER, 8, 9], [first]),
        inputs_of(family, [5, 10, 11], []),
        inputs_of(family, [5, *second.ids, 12, *first.ids, 13, ROUTER, 14], [second, first]),
    ]


def batch_of(family: Family) -> dict[str, Tensor]:
    """The samples padded on the right, their pictures joined."""
    first, second = family.pictures
    ids = [sample["input_ids"][0].tolist() for sample in samples_of(family)]
    longest = max(map(len, ids))
    batch = inputs_of(family, [], [first, second, first])
    batch["input_ids"] = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    batch["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    return batch


def pair(family: Family) -> tuple[Any, DpnForConditionalGeneration]:
    """transformers' model and ours with its weights, which are large, so that every term shows."""
    theirs = AutoModelForImageTextToText.from_config(AutoConfig.for_model(family.kind, **family.config)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.15 * drawn if parameter.ndim > 1 else parameter + 0.1 * drawn)
    ours = DpnForConditionalGeneration(DpnConfig(base_config=theirs.config, router_token_id=ROUTER))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.eval()


def for_theirs(family: Family, sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """Qwen-VL wants to be told where pictures are."""
    if not family.kind.startswith("qwen"):
        return sample
    return sample | {"mm_token_type_ids": (sample["input_ids"] == IMAGE).int()}


@by_kind
@torch.no_grad()
def test_dense_and_1x1_logits_equal_transformers(family) -> None:
    theirs, ours = pair(family)
    expected = [theirs(**for_theirs(family, sample)).logits[0, -1] for sample in samples_of(family)]
    assert torch.stack(expected).std() > 0.1
    batch = batch_of(family)
    for method in (Method(name="dense"), Method(name="dpn", sites=(1, 2), experts=("1x1",))):
        ours.configure_method(method)
        ours.eval()
        logits = ours(**batch).logits
        for row, want in enumerate(expected):
            torch.testing.assert_close(logits[row], want, atol=1e-5, rtol=1e-5)  # measured 3.3e-6


@by_kind
@torch.no_grad()
def test_generation_equals_transformers(family) -> None:
    """Greedy, a batch of prompts with and without pictures, and beams.

    Beams are of one tile: releases of transformers before 5.24 mix up several.
    """
    theirs, ours = pair(family)
    kwargs = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": 99, "pad_token_id": 0}
    samples, second = samples_of(family), family.pictures[1]
    expected = []
    for sample in (samples[0], samples[2]):
        want = theirs.generate(**for_theirs(family, sample), use_cache=True, **kwargs)
        assert ours.generate(**sample, **kwargs).tolist() == want.tolist()
        expected.append(want[0, -4:].tolist())
    sample = inputs_of(family, [5, *second.ids, 12], [second])
    want = theirs.generate(**for_theirs(family, sample), num_beams=2, use_cache=True, **kwargs)
    assert ours.generate(**sample, num_beams=2, **kwargs).tolist() == want.tolist()
    together = ours.generate(**batch_of(family), **kwargs)[:, -4:]
    assert [together[0].tolist(), together[2].tolist()] == expected


@by_kind
@pytest.mark.parametrize("site", [1, 3])
@torch.no_grad()
def test_pooling_counts_the_tokens_of_every_grid(family, site) -> None:
    """A sample's answer does not depend on its batch, tokens and FLOPs are those of the pooled grids."""
    _, ours = pair(family)
    ours.configure_method(Method(name="static", kernel="2x2", sites=(site,)))
    out = ours.eval()(**batch_of(family))
    first, second = family.pictures
    tokens = [first.tokens(), 0, first.tokens() + second.tokens()]
    pooled = [first.tokens((2, 2)), 0, first.tokens((2, 2)) + second.tokens((2, 2))]
    assert out.routing.visual_tokens == tuple(tokens)
    for row, sample in enumerate(samples_of(family)):
        assert out.routing.visual_tokens_per_stage(row) == (tokens[row], pooled[row])
        assert out.routing.text_tokens[row] == sample["input_ids"].shape[1] - tokens[row]
        cost = out.routing.prefill_cost(row, "eq8")
        layer = [layer_macs(n, ours.model_shape.decoder, "eq8") for n in (tokens[row], pooled[row])]
        assert (cost.total, cost.dense) == (site * layer[0] + (4 - site) * layer[1], 4 * layer[0])
        torch.testing.assert_close(ours(**sample).logits[0], out.logits[row], atol=1e-5, rtol=1e-5)  # measured 1.4e-6


@by_kind
def test_towers_are_billed_as_they_run_or_not_at_all(family) -> None:
    """Two pictures of one sample against torch's counter; Qwen-VL's tower has no account, and says so."""
    _, ours = pair(family)
    sample = samples_of(family)[2]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        routing = ours(**sample).routing
    if family.kind.startswith("qwen"):
        with pytest.raises(ValueError, match="this base's vision tower has no account"):
            routing.cost(0)
        return
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    decoder = sum(number for name, number in flops.items() if re.search(r"(language|text)_model\.layers\.\d$", name))
    cost = routing.cost(0, "true")
    assert (cost.prefill, cost.lm_head) == (decoder, flops["DpnForConditionalGeneration.lm_head"])
    assert cost.vision + cost.projector == flops["Global"] - decoder - cost.lm_head


@by_kind
def test_decoding_continues_behind_pooled_pictures(family) -> None:
    _, ours = pair(family)
    ours.configure_method(Method(name="static", kernel="2x2", sites=(1,), positions="keep"))
    ours.eval()
    sample = samples_of(family)[2]
    cache = PackedCache()
    ours(**sample, past_key_values=cache)
    behind = ours(torch.tensor([[20]]), past_key_values=cache).logits
    whole = sample | {"input_ids": torch.cat([sample["input_ids"], torch.tensor([[20]])], dim=1)}
    torch.testing.assert_close(behind, ours(**whole).logits, atol=1e-5, rtol=1e-5)  # measured 2.1e-6


@by_kind
def test_training_reaches_every_weight_with_and_without_pictures(family) -> None:
    _, ours = pair(family)
    ours.configure_method(Method(name="dpn", sites=(1,)))
    ours.train()
    for batch in (batch_of(family), samples_of(family)[1]):
        ours.zero_grad()
        loss = ours(**batch, labels=batch["input_ids"].masked_fill(batch["input_ids"] > 20, -100)).loss
        loss.backward()
        idle = [name for name, parameter in ours.named_parameters() if parameter.grad is None]
        # What stands behind the feature layer has no part in the features.
        assert not [name for name in idle if "post_layernorm" not in name and ".layers.1." not in name], idle


def test_what_later_layers_add_is_pooled_as_the_tokens_are() -> None:
    """Qwen3-VL adds features behind layers 1 to 3: what is left of them behind a site is pooled by its windows."""
    family = FAMILIES[0]
    _, ours = pair(family)
    state, _ = ours.pack(**{"attention_mask": None} | samples_of_as_pack(family))
    assert len(state.injections) == 3
    assert all(injected[state.kind_T != 1].abs().max() == 0 for injected in state.injections)
    behind = state.injected()
    torch.testing.assert_close(behind.hidden_TD, state.hidden_TD + state.injections[0])
    rows = [pool_image(image, (2, 2)) for image in state.images]
    pooled = replace_image_rows(behind, rows)[0].injections
    for kept, injected in zip(pooled, state.injections[1:], strict=True):
        torch.testing.assert_close(kept, replace_image_rows(state.with_hidden(injected), rows)[0].hidden_TD)
    ours.configure_method(Method(name="static", kernel="2x2", sites=(2,), pool="conv"))
    with pytest.raises(ValueError, match="pool = conv at a site behind which 1 more layers add to visual tokens"):
        ours(**samples_of(family)[0])


def samples_of_as_pack(family: Family) -> dict[str, Any]:
    sample = samples_of(family)[2]
    return {"input_ids": sample.pop("input_ids"), "pixel_values": sample.pop("pixel_values"), "inputs": sample}


def test_a_pooled_row_ends_with_one_newline() -> None:
    """A 2x3 view with newlines (cells 0 1 2 n, 3 4 5 n) by 2x2: one window and one newline; by 1x2 two rows."""
    image = ImageSpan(0, 10, 2, 3, row_end=1)
    assert pool_image(image, (2, 2)).windows.tolist() == [[0, 1, 4, 5], [3, -1, 7, -1]]
    assert pool_image(image, (1, 2)).windows.tolist() == [[0, 1], [3, -1], [4, 5], [7, -1]]
    assert pool_image(image, (2, 2), "ceil").windows.tolist() == [[0, 1, 4, 5], [2, -1, 6, -1], [3, -1, 7, -1]]
    assert tokens_after(image, (1, 1)) == 8
    assert tokens_after(image, (2, 2)) == 2
    assert tokens_after(image, (1, 4)) == 0
    with pytest.raises(ValueError, match="pool = conv; allowed for pictures whose rows end with a newline: max, avg"):
        pool_image(image, (2, 2), pool=DepthwiseConv(4, (2, 2)))


def test_a_sample_with_several_pictures_has_a_tile_and_a_newline_for_each() -> None:
    """LLaVA-OneVision's `batch_num_images`: one picture is tiled, of two in a sample neither is."""
    family = next(family for family in FAMILIES if family.kind == "llava_onevision")
    theirs, ours = pair(family)
    first, second = family.pictures
    pixels = torch.cat([first.pixels, second.pixels, first.pixels])
    batch = {
        "input_ids": torch.tensor([[5, *[IMAGE] * 17, 6, *[IMAGE] * 17, *range(7, 30)], [5, *first.ids, 7, 8]]),
        "pixel_values": pixels,
        "image_sizes": torch.tensor([[30, 14], [31, 32], [30, 14]]),
        "batch_num_images": torch.tensor([2, 1]),
    }
    out = ours(**batch)
    torch.testing.assert_close(out.logits, theirs(**batch).logits[:, -1], atol=1e-5, rtol=1e-5)
    assert out.routing.visual_tokens == (32, 56)  # lone newlines count as text, those at the end of rows do not
    assert out.routing.num_images == (2, 3)


@pytest.mark.parametrize(
    ("kind", "broken", "told"),
    [
        ("llava_next", {"image_sizes": None}, "there is no image_sizes"),
        (
            "llava_next",
            {"image_sizes": torch.tensor([[30, 14]] * 2)},
            "image_sizes holds 2 sizes, pixel_values 3 images",
        ),
        ("llava_next", {"pixel_values": noise(3, 2, 3, 16, 16)}, r"\[0\] has shape \(2, 3, 16, 16\)"),
        ("internvl", {"pixel_values": noise(3, 3, 32, 32)}, r"allowed: \(3, 16, 16\)"),
        ("internvl", {"image_sizes": torch.tensor([[1, 1]])}, "forward has no argument image_sizes with this base"),
        ("qwen3_vl", {"image_grid_thw": None}, "there is no image_grid_thw"),
        ("qwen3_vl", {"pixel_values_videos": noise(4, 96)}, "no argument pixel_values_videos"),
        ("smolvlm", {"pixel_values": noise(1, 4, 3, 8, 8)}, r"allowed: \(3, 16, 16\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(kind, broken, told) -> None:
    family = next(family for family in FAMILIES if family.kind == kind)
    _, ours = pair(family)
    with pytest.raises(ValueError, match=told):
        ours(**batch_of(family) | broken)
    if "argument" in told:
        with pytest.raises(ValueError, match=next(iter(broken))):
            ours.generate(**batch_of(family) | broken)
