"""Tiny models and pictures of families of transformers' VLMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText

from dpn_model import DpnConfig, DpnForConditionalGeneration

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

    def inputs(self, ids: list[int], pictures: list[Picture]) -> dict[str, Tensor]:
        """One sample of `ids` that shows `pictures`."""
        inputs: dict[str, Tensor] = {"input_ids": torch.tensor([ids])}
        if pictures:
            inputs["pixel_values"] = torch.cat([picture.pixels for picture in pictures], dim=self.axis)
            for name in pictures[0].inputs:
                inputs[name] = torch.cat([picture.inputs[name] for picture in pictures], dim=self.axis)
        return inputs

    def samples(self) -> list[dict[str, Tensor]]:
        """One picture; none; two in the other order."""
        first, second = self.pictures
        return [
            self.inputs([5, 6, *first.ids, 7, ROUTER, 8, 9], [first]),
            self.inputs([5, 10, 11], []),
            self.inputs([5, *second.ids, 12, *first.ids, 13, ROUTER, 14], [second, first]),
        ]

    def batch(self) -> dict[str, Tensor]:
        """The samples padded on the right, their pictures joined."""
        first, second = self.pictures
        ids = [sample["input_ids"][0].tolist() for sample in self.samples()]
        longest = max(map(len, ids))
        batch = self.inputs([], [first, second, first])
        batch["input_ids"] = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        batch["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        return batch

    def pair(self) -> tuple[Any, DpnForConditionalGeneration]:
        """transformers' model and ours with its weights, which are large, so that every term shows."""
        theirs = AutoModelForImageTextToText.from_config(AutoConfig.for_model(self.kind, **self.config)).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in theirs.parameters():
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.15 * drawn if parameter.ndim > 1 else parameter + 0.1 * drawn)
        ours = DpnForConditionalGeneration(DpnConfig(base_config=theirs.config, router_token_id=ROUTER))
        ours.load_state_dict(theirs.state_dict())
        return theirs, ours.eval()

    def for_theirs(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Qwen-VL wants to be told where pictures are."""
        if not self.kind.startswith("qwen"):
            return sample
        return sample | {"mm_token_type_ids": (sample["input_ids"] == IMAGE).int()}


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


def qwen2() -> Family:
    vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    config = qwen3("qwen2_vl").config
    return Family("qwen2_vl", config | {"vision_config": vision}, (gridded(4, 12), gridded(8, 8)))


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
    qwen2(),
    qwen3("qwen3_vl"), qwen3("qwen3_vl_moe", **MOE), llava_next(), llava_onevision(), internvl(), idefics("idefics3"),
    idefics("smolvlm"),
]  # fmt: skip


@pytest.fixture(params=FAMILIES, ids=lambda family: family.kind)
def family(request: pytest.FixtureRequest) -> Family:
    """Each of them."""
    return request.param


@pytest.fixture
def family_of() -> Callable[[str], Family]:
    """A family by its kind."""
    return {family.kind: family for family in FAMILIES}.__getitem__
